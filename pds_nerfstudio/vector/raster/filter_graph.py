"""What a filter does to a picture, as a graph of primitives (Filter Effects 1)."""

from dataclasses import dataclass

from pds_nerfstudio.vector.raster.affine import IDENTITY, Affine

BLEND_MODES = (
    "normal", "multiply", "screen", "overlay", "darken", "lighten", "color-dodge", "color-burn", "hard-light",
    "soft-light", "difference", "exclusion", "hue", "saturation", "color", "luminosity",
)  # fmt: skip
"""How a picture may mix with what is below it (Compositing and Blending 1, section 5.1)."""
SOURCE = -1
"""In the place of a step's number: what the filter is on."""
SOURCE_ALPHA = -2
"""The same in black."""


@dataclass(frozen=True)
class Region:
    """A rectangle, which may follow a box as paths do; see `scene.Fitted`."""

    first: int
    """Row of `points` of the first of its four corners."""
    transform: Affine = IDENTITY
    """From its units to the drawing's."""


@dataclass(frozen=True)
class Blur:
    """A Gaussian blur."""

    x: float
    """Standard deviation along x, in the filter's units."""
    y: float
    """Standard deviation along y."""


@dataclass(frozen=True)
class Offset:
    """A move."""

    x: float
    """To the right, in the filter's units."""
    y: float
    """Down."""


@dataclass(frozen=True)
class Flood:
    """One colour everywhere."""

    color: int
    """Row of `colors`."""
    opacity: int
    """Row of `opacities`."""


@dataclass(frozen=True)
class Merge:
    """All inputs, the first one lowest."""


@dataclass(frozen=True)
class Composite:
    """The first input with the second (Porter and Duff, 1984)."""

    operator: str
    """over, in, out, atop, xor, lighter or arithmetic."""
    k: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Of arithmetic: the factors of both inputs' product, of the first, of the second, and what is added."""


@dataclass(frozen=True)
class Mix:
    """The first input over the second by a blend mode."""

    mode: str
    """One of `BLEND_MODES`."""


@dataclass(frozen=True)
class ColorMatrix:
    """A linear map of colours and alpha, not premultiplied."""

    values: tuple[float, ...]
    """Four rows of five: the factors of red, green, blue and alpha, and what is added."""


@dataclass(frozen=True)
class Transfer:
    """A function of each channel, not premultiplied."""

    functions: tuple["TransferFunction", "TransferFunction", "TransferFunction", "TransferFunction"]
    """Those of red, green, blue and alpha."""


@dataclass(frozen=True)
class TransferFunction:
    """A function from 0 … 1 to 0 … 1 (Filter Effects 1, section 9.7)."""

    kind: str = "identity"
    """identity, table, discrete, linear or gamma."""
    values: tuple[float, ...] = ()
    """The table; slope and intercept; or amplitude, exponent and offset."""


@dataclass(frozen=True)
class Morphology:
    """Fattening or thinning."""

    dilates: bool
    """Whether it fattens."""
    x: float
    """By how much to each side along x, in the filter's units."""
    y: float
    """By how much along y."""


Operation = Blur | Offset | Flood | Merge | Composite | Mix | ColorMatrix | Transfer | Morphology


@dataclass(frozen=True)
class Step:
    """One primitive of a filter."""

    operation: Operation
    """What it does."""
    inputs: tuple[int, ...] = ()
    """Numbers of the steps before it that it works on, `SOURCE` or `SOURCE_ALPHA`."""
    linear: bool = False
    """Whether it works in linear light, and not in sRGB."""
    region: Region | None = None
    """Outside of which its result is cut off, beside the filter's own."""


@dataclass(frozen=True)
class Filter:
    """Steps, the last of which is the result. One without steps leaves nothing."""

    steps: tuple[Step, ...]
    """What it does, in order."""
    region: Region | None
    """Outside of which nothing is seen, before and after; None for no bound."""
    transform: Affine = IDENTITY
    """From the filter's units to the drawing's."""
