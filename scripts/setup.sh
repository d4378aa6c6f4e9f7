#!/usr/bin/env bash
# Make a virtual environment in .venv (or $VENV) and install the project into it; does nothing where that is done.
#   scripts/setup.sh [EXTRA]      EXTRA is "dev" for the tests
set -euo pipefail
cd "$(dirname "$0")/.."
extra=${1:+[$1]}
venv=${VENV:-.venv}

python=
for candidate in python3.12 python3.11 python3; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "Error: Python 3.11 or 3.12 is needed, and neither is on the PATH." >&2
    exit 1
fi

stamp="$venv/.installed${1:+-$1}"
if [ ! -e "$stamp" ] || [ pyproject.toml -nt "$stamp" ]; then
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    echo "Installing into $venv (about 8 GB, some 6 minutes; the log is $venv/install.log) ..."
    "$venv/bin/pip" install -q -e ".$extra" >"$venv/install.log" 2>&1 || {
        tail -n 20 "$venv/install.log" >&2
        exit 1
    }
    touch "$stamp"
fi
