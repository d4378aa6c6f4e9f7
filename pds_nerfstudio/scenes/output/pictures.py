"""Small pictures of an edit: heat maps, a training view with where its gradient acts, and plots."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.page import Picture

Series = Sequence[tuple[float, float]]

# All can be made out on white and on a dark page.
_COLORS = ("#2f86dd", "#d9692b", "#3f9c3f", "#a35fc9")
_TEXT_COLOR = "#7d7d7d"
_PLOT_POINTS = 300


def to_bytes(image: Float[Tensor, "height width 3"]) -> Picture:
    """Return a picture in 0..1 as bytes."""
    return (image * 255).round().to(torch.uint8).cpu().numpy()


def heat(
    amount: Float[Tensor, "height width"], under: Float[Tensor, "height width 3"]
) -> Float[Tensor, "height width 3"]:
    """Return a heat map over a faint grey picture: black, red, yellow, white.

    Args:
        amount: From 0 (nothing) to 1 and above (white).
        under: The picture that it is about, in 0..1.
    """
    offsets = torch.tensor([0.0, 1.0, 2.0], device=amount.device)
    glow = (3 * amount.clamp(0, 1)[..., None] - offsets).clamp(0, 1)
    return torch.maximum(glow, 0.3 * under.mean(-1, keepdim=True) * (1 - amount.clamp(0, 1)[..., None]))


@dataclass(frozen=True)
class EditedView:
    """A training view in an edit step."""

    index: int
    """Of the view."""
    source: Float[Tensor, "height width 3"]
    """Before the edit, in 0..1."""
    current: Float[Tensor, "height width 3"]
    """As it is rendered now, in 0..1."""
    gradient: Float[Tensor, "height width 3"]
    """Of the guidance's loss, on `current`."""

    @torch.no_grad()
    def triptych(self) -> Picture:
        """Return, side by side, the source, the present state, and where the gradient acts (white: most)."""
        size = self.gradient.float().norm(dim=-1)
        most = torch.quantile(size.flatten()[:: max(1, size.numel() // 100_000)], 0.99).clamp_min(1e-12)
        parts = [self.source, self.current, heat(size / most, self.current)]
        return to_bytes(torch.cat([part.float().clamp(0, 1) for part in parts], dim=1))


def plot(title: str, lines: Mapping[str, Series], width: int = 420, height: int = 160) -> str:
    """Return a plot of lines as an SVG document that reads on light and dark pages.

    Args:
        title: Above the plot.
        lines: The points of each line by its name, from left to right; numbers that are not finite are left out.
        width: In pixels.
        height: In pixels.
    """
    lines = {name: _thinned([p for p in points if np.isfinite(p).all()]) for name, points in lines.items()}
    points = [point for line in lines.values() for point in line] or [(0.0, 0.0)]
    (x0, y0), (x1, y1) = np.min(points, axis=0).tolist(), np.max(points, axis=0).tolist()
    y0 = min(y0, 0.0)
    left, right, top, bottom = 60, width - 8, 24, height - 20

    def place(x: float, y: float) -> str:
        across = left + (x - x0) / ((x1 - x0) or 1) * (right - left)
        return f"{across:.1f},{bottom - (y - y0) / ((y1 - y0) or 1) * (bottom - top):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{html.escape(title)}" font-family="sans-serif" font-size="12" fill="{_TEXT_COLOR}">',
        f'<text x="{left}" y="14" font-weight="bold">{html.escape(title)}</text>',
        f'<path d="M{left},{top}V{bottom}H{right}" fill="none" stroke="{_TEXT_COLOR}" stroke-opacity="0.5"/>',
        f'<text x="{left - 4}" y="{top + 8}" text-anchor="end">{y1:.3g}</text>',
        f'<text x="{left - 4}" y="{bottom}" text-anchor="end">{y0:.3g}</text>',
        f'<text x="{left}" y="{height - 6}">{x0:.0f}</text>',
        f'<text x="{right}" y="{height - 6}" text-anchor="end">{x1:.0f}</text>',
    ]
    legend = right
    for color, (name, line) in zip(_COLORS, lines.items(), strict=False):
        path = " ".join(place(x, y) for x, y in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"/>')
        if len(lines) > 1:
            parts.append(f'<text x="{legend}" y="14" text-anchor="end" fill="{color}">{html.escape(name)}</text>')
            legend -= 7 * len(name) + 10
    return "\n".join([*parts, "</svg>"])


def _thinned(line: Series) -> list[tuple[float, float]]:
    """Return as many points as the eye can tell apart, each the mean of those that it replaces."""
    if len(line) <= _PLOT_POINTS:
        return list(line)
    return [tuple(part.mean(0).tolist()) for part in np.array_split(np.array(line), _PLOT_POINTS)]
