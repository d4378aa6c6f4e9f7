#!/usr/bin/env bash
# Make a virtual environment in .venv (or $VENV) and install the project into it; does nothing where that is done.
#   scripts/setup.sh [EXTRA]      EXTRA is "dev" for the tests
# UV_TORCH_BACKEND=cpu in the environment takes PyTorch's CPU build, which is a tenth as large.
set -euo pipefail
cd "$(dirname "$0")/.."
project=.${1:+[$1]}
venv=${VENV:-.venv}

fail() {
    echo "Error: $1" >&2
    exit 1
}

find_python() { # the newest Python that the project runs on and that can make environments
    local candidate version found=
    for candidate in python3.12 python3.11 python3 python; do
        version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
        case $version in 3.11 | 3.12) found=$version ;; *) continue ;; esac
        if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            python=$candidate
            return
        fi
    done
    [ -n "$found" ] || fail "Python 3.11 or 3.12 is needed, and neither is on the PATH."
    fail "Python $found lacks its module venv: install it (Debian and Ubuntu: apt-get install python$found-venv)."
}

# A home that can't be written to has no place for uv's cache.
mkdir -p "${UV_CACHE_DIR:-${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/uv}" 2>/dev/null || export UV_NO_CACHE=1

install_project() { # by uv, which shows how far it is; by pip where uv can't, say for want of an index that only pip knows
    "$venv/bin/python" -m pip install -q --disable-pip-version-check uv &&
        "$venv/bin/uv" pip install --python "$venv/bin/python" -e "$project" && return
    echo "uv could not install it; trying with pip, which takes some minutes (its log is $venv/install.log) ..." >&2
    "$venv/bin/python" -m pip install -e "$project" >"$venv/install.log" 2>&1 || {
        tail -n 20 "$venv/install.log" >&2
        return 1
    }
}

stamp="$venv/.installed${1:+-$1}"
if [ ! -e "$stamp" ] || [ pyproject.toml -nt "$stamp" ]; then
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then # there is none, or its making was cut short
        find_python
        "$python" -m venv "$venv" || fail "no environment could be made in $venv: see above."
    fi
    echo "Installing into $venv (some 8 GB, a few minutes) ..."
    install_project || fail "the project could not be installed: mend what is said above, and give the command again."
    touch "$stamp"
fi
