#!/usr/bin/env bash
# The whole way on a machine that hides what a bare one lacks: from data to an edited splat, its report and its score, a
# picture, a drawing with its video, and the viewer's --help. Fails where one of these is missed, or called at all.
set -euo pipefail
cd "$(dirname "$0")/.."
drawing=$PWD/examples/svg bin=$PWD/.venv/bin
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

mkdir hidden hidden/open3d
echo 'raise ImportError("open3d is hidden here")' >hidden/open3d/__init__.py
for program in ffmpeg chromium chromium-browser google-chrome; do
    printf '#!/bin/sh\necho %s >>"%s/called"\nexit 127\n' "$program" "$folder" >"hidden/$program"
    chmod +x "hidden/$program"
done
export PATH="$folder/hidden:$bin:$PATH" PYTHONPATH="$folder/hidden"
unset IMAGEIO_FFMPEG_EXE

must_have() {
    for file in "$@"; do
        [ -s "$file" ] || { echo "Error: $file was not written." >&2; exit 1; }
    done
}

pds-toyworld scene --out scene --edit hat=top --views 8 --width 64 --height 64
ns-train pds-splat --data scene --output-dir runs --experiment-name edit --timestamp now --vis tensorboard \
    --pipeline.reconstruct-steps 30 --max-num-iterations 6 --pipeline.guidance.compile off \
    --pipeline.src-prompt "a photo of a man in a blue shirt" \
    --pipeline.tgt-prompt "a photo of a man in a blue shirt wearing a red top hat" 2> >(tee warnings.txt >&2)
run=runs/edit/pds-splat/now
must_have "$run"/{report.html,turntable.mp4,before_after.png,splat.ply,edited_views/transforms.json}
! grep Warning warnings.txt || { echo "Error: a dependency warns (see above)." >&2; exit 1; }
pds-eval --load-config "$run/config.yml" --views 2
must_have "$run/evaluation/scores.json"
ns-viewer --help >/dev/null

pds-image --image "$run/edited_views/images/$(ls "$run/edited_views/images" | head -n 1)" --edit.steps 4 \
    --src-prompt "a photo of a man" --tgt-prompt "a photo of a robot"
must_have outputs/images/*/edited.png
pds-svg --svg "$(find "$drawing" -name '*.svg' | sort | head -n 1)" --history mp4 --edit.draft.steps 4 --edit.fit-steps 8 \
    --src-prompt "a drawing of a man" --tgt-prompt "a drawing of a robot"
must_have outputs/svg/*/{final.svg,history.mp4}
[ ! -e called ] || { echo "Error: hidden programs were called: $(sort -u called | tr '\n' ' ')" >&2; exit 1; }
