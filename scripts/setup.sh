#!/usr/bin/env bash
# Make a virtual environment in .venv (or $VENV) and install the project into it; does nothing where that is done.
#   scripts/setup.sh [EXTRA]      EXTRA is "dev" for the tests
# An environment that is there already is kept: one with PyTorch's CPU build in it stays without CUDA.
set -euo pipefail
cd "$(dirname "$0")/.."
extra=${1:+[$1]}
venv=${VENV:-.venv}
log=$venv/install.log

fail() {
    echo "Error: $1" >&2
    exit 1
}

find_python() { # the newest Python that the project runs on and that can make environments
    found=
    for candidate in python3.12 python3.11 python3 python; do
        version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
        case $version in 3.11 | 3.12) ;; *) continue ;; esac
        found=$version
        if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            python=$candidate
            return
        fi
    done
    [ -n "$found" ] || fail "Python 3.11 or 3.12 is needed, and neither is on the PATH."
    fail "Python $found has no venv module: install it (on Debian and Ubuntu: apt-get install python$found-venv)."
}

progress() { # what pip is about, on one line that is written over; and all of it in the log
    tee "$log" | {
        [ -t 1 ] || { cat >/dev/null; return; }
        awk -v columns="$(tput cols 2>/dev/null || echo 80)" '
            /^ *Collecting / { found += 1; line = found " packages found (of some 250): " $2 }
            /^Building / { line = $0 }
            /^Installing collected/ { line = "Unpacking them, which takes a minute or two and says nothing" }
            line != "" { printf "\r\033[K%s", substr(line, 1, columns - 1); fflush(); line = "" }
            END { printf "\r\033[K" }'
    }
}

stamp="$venv/.installed${1:+-$1}"
if [ ! -e "$stamp" ] || [ pyproject.toml -nt "$stamp" ]; then
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then # none, or one whose making was cut short
        find_python
        "$python" -m venv "$venv" || fail "no environment could be made in $venv: see above."
    fi
    echo "Installing into $venv (some 8 GB and 6 minutes; the log is $log) ..."
    "$venv/bin/python" -m pip install --no-warn-script-location -e ".$extra" 2>&1 | progress || {
        tail -n 20 "$log" >&2
        fail "pip could not install the project; mend what it says above, then give the same command again."
    }
    touch "$stamp"
fi
