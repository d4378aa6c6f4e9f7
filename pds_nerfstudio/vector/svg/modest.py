"""What can be left to resvg without a bound on time or memory of its own."""

import base64
import binascii
import io
import re

from PIL import Image

from pds_nerfstudio.vector.svg.numbers import parse_numbers
from pds_nerfstudio.vector.svg.xml_source import Element

MAX_PIXELS = 32 * 2**20
"""Most pixels of an embedded picture."""
_MOST = {"feTurbulence": ("numOctaves", 8.0), "feConvolveMatrix": ("order", 9.0)}
"""Attributes of which the time grows with the value, by tag, and how large they may be."""
FOREIGN = frozenset(
    "feConvolveMatrix feDiffuseLighting feDisplacementMap feImage feSpecularLighting feTile feTurbulence".split()
)
"""Primitives of filters that are not drawn here."""
_EMBEDDED = re.compile(r"data:image/(?:png|jpe?g|gif|webp);base64,", re.IGNORECASE)


def is_modest_primitive(primitive: Element) -> bool:
    """Tell whether resvg draws a primitive of a filter, in bounded time."""
    if primitive.tag == "feImage":
        href = primitive.attributes.get("href", "").strip()
        return href.startswith("#") or is_modest_picture(primitive)
    if primitive.tag not in _MOST:
        return primitive.tag in FOREIGN
    name, most = _MOST[primitive.tag]
    return max(parse_numbers(primitive.attributes.get(name, "")), default=0.0) <= most


def is_modest_picture(element: Element) -> bool:
    """Tell whether an element's href embeds pixels, and not too many. Nothing is fetched."""
    href = element.attributes.get("href", "").strip()
    match = _EMBEDDED.match(href)
    if match is None:
        return False
    try:
        with Image.open(io.BytesIO(base64.b64decode(href[match.end() :]))) as picture:
            return picture.width * picture.height <= MAX_PIXELS
    except (OSError, ValueError, binascii.Error, Image.DecompressionBombError):
        return False
