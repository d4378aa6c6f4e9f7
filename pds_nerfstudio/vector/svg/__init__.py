"""SVG files: read into a scene, and written back in place."""
