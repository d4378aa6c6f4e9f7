"""SVG as an editable thing: a document written back in place, and an exact differentiable rasteriser."""
