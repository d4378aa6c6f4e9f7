"""Files broken at random are drawn or refused in one line; scripts/check_svg_fidelity.py tries far more."""

import random
import warnings
from pathlib import Path

import pytest
import torch

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.vector.raster.rasterizer import Rasterizer
from pds_nerfstudio.vector.svg.document import Document

STRESS = (Path(__file__).parent / "stress.svg").read_bytes()


def _damaged(seed: int) -> bytes:
    chance = random.Random(seed)
    data = bytearray(STRESS)
    for _ in range(chance.randint(1, 4)):
        at, length = chance.randrange(len(data)), chance.choice((1, 1, 2, 5, 60))
        kind = chance.randrange(4)
        if kind == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2:
            data[at:at] = data[at : at + length] * 3
        else:
            digits = [i for i, byte in enumerate(data) if 48 <= byte <= 57]
            data[(place := chance.choice(digits)) : place + 1] = chance.choice([b"1e9", b"-", b"1e-9", b"1e400", b"."])
    return bytes(data)


def _read_or_refused(data: bytes) -> Document | None:
    """The drawing, or None if it is refused."""
    try:
        return Document(data)
    except UserError:
        return None


@pytest.mark.parametrize("block", range(10))
def test_damaged_files(block: int) -> None:
    for seed in range(20 * block, 20 * block + 20):
        data = _damaged(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            document = _read_or_refused(data)
        if document is None:
            continue
        image = Rasterizer(document.scene).render(
            document.parameters, 40, 40, document.view(40, 40), torch.ones(3, 40, 40)
        )
        assert image.isfinite().all(), seed
        assert document.write(document.parameters) == data


@pytest.mark.parametrize("length", [1, 40, 400, 2000, 5000])
def test_truncated_files_are_refused(length: int) -> None:
    with pytest.raises(UserError):
        Document(STRESS[:length])
