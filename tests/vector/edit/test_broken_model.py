"""A model whose numbers are none, as of a download that was damaged: an error, and no drawing that is called edited."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.flow_edit import FlowEditConfig
from pds_nerfstudio.images.edit_loop import ImageEditConfig
from pds_nerfstudio.vector.edit.cli import SvgEdit, run
from pds_nerfstudio.vector.edit.loop import VectorEditConfig
from tests.guidance.miniature import save_pipeline

SVG = b'<svg viewBox="0 0 8 8"><path d="M1 1L7 1L7 7L1 7Z" fill="red"/></svg>'
WAYS = {
    "draft": VectorEditConfig(draft=ImageEditConfig(steps=2, refine_steps=1), fit_steps=2),
    "draft by flows": VectorEditConfig(
        draft=ImageEditConfig(flow_edit=FlowEditConfig("flowedit", steps=2), refine_steps=1), fit_steps=2
    ),
    "guided": VectorEditConfig(fit_steps=0, steps=2),
}


@pytest.fixture(scope="module", params=["unet", "vae", "text_encoder"])
def broken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of which one part is NaN."""
    folder = save_pipeline(tmp_path_factory.mktemp("models") / request.param, {}, {})
    for path in (folder / request.param).glob("*.safetensors"):
        save_file({name: torch.full_like(w, torch.nan) for name, w in load_file(path).items()}, path, {"format": "pt"})
    return folder


@pytest.mark.parametrize("way", WAYS)
def test_it_is_an_error(way: str, broken: Path, tmp_path: Path) -> None:
    (tmp_path / "box.svg").write_bytes(SVG)
    guidance = GuidanceConfig(model=str(broken))
    config = SvgEdit(
        tmp_path / "box.svg", "a cat", "a dog", output_dir=tmp_path, canvas=32, device="cpu", guidance=guidance
    )
    config.edit = WAYS[way]
    with pytest.raises(UserError, match="Nothing was edited: in none of 2 steps"):
        run(config)
    assert not list(tmp_path.rglob("final.svg"))
