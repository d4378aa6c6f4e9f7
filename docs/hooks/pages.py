"""MkDocs hook: the pages that are made while the docs are built, so that nothing is kept twice."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from options import Sources, page

ROOT = Path(__file__).parents[2]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the options, and the two pages that lie at the root of the repository."""
    made = {"options.md": page(Sources.read())}
    at_root = ("CONTRIBUTING.md", "CHANGELOG.md")
    for name in at_root:
        text = (ROOT / name).read_text(encoding="utf-8")
        for other in at_root:
            text = text.replace(f"]({other})", f"]({other.lower()})")
        made[name.lower()] = text.replace("](docs/", "](")
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    return files
