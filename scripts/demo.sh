#!/usr/bin/env bash
# Set up, and edit a splat scene of the embedded world by text: no GPU, no downloads of models.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
exec "${VENV:-.venv}/bin/python" scripts/demo.py "$@"
