#!/usr/bin/env bash
# Build wheel and sdist; install the wheel into an empty environment and edit a picture there, away from the checkout.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$PWD/.venv/bin/uv checkout=$PWD
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python=$(command -v pyenv >/dev/null && pyenv versions --bare | grep '^3\.12\.' | tail -n 1 | xargs -r pyenv prefix)
python=${python:+$python/bin/python}
[ -n "$python" ] || python=$(python3.12 -c 'import sys; print(sys.executable)' 2>/dev/null) || {
    python=$(.venv/bin/python -c 'import sys; print(sys.executable)')
    echo "NOTE: no Python 3.12 is here: trying the wheel with $("$python" --version) instead."
}

"$uv" build -q --out-dir "$folder/dist"
ls -l "$folder/dist"
"$uv" venv -q -p "$python" "$folder/environment"
# Overrides are read from the checkout's pyproject.toml, as in scripts/setup.sh.
"$uv" pip install -q -p "$folder/environment" "$folder"/dist/*.whl
export PATH="$folder/environment/bin:$PATH"
cd "$folder"
python "$checkout/.ci/import_all.py" --installed
python - <<'PYTHON'
from importlib.metadata import entry_points

from PIL import Image

import pds_nerfstudio

methods = {entry.name: entry.load() for entry in entry_points(group="nerfstudio.method_configs")}
assert {"pds-nerf", "pds-splat", "pds-nerf-toyworld", "pds-splat-toyworld"} <= methods.keys(), methods
assert "checkout" not in pds_nerfstudio.__file__ and "site-packages" in pds_nerfstudio.__file__, pds_nerfstudio.__file__
Image.effect_mandelbrot((96, 96), (-2, -1.5, 1, 1.5), 50).convert("RGB").save("picture.png")
PYTHON
ns-train --help | grep -o 'pds-[a-z]*' | sort -u
pds-image --image picture.png --edit.steps 4 --src-prompt "a photo of a ball" --tgt-prompt "a photo of a cube"
[ -s outputs/images/picture/edited.png ]
pds-toyworld scene --out scene --edit hat=top --views 2 --width 32 --height 32
[ -s scene/transforms.json ]
for command in pds-eval pds-benchmark; do
    "$command" --help >/dev/null
done
