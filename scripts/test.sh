#!/usr/bin/env bash
# Set up and run everything that says whether the project is sound: style, types, tests.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh dev
bin=${VENV:-.venv}/bin
# Small tensors: a second thread costs more than it gives, and on shared cores it can cost tens of times.
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
"$bin/ruff" check .
"$bin/ruff" format --check .
"$bin/mypy"
"$bin/python" -m pytest -n 2 "$@"
