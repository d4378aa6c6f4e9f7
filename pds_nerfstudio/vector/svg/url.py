"""References of properties: url(#id)."""

import re

_URL = re.compile(r"url\(\s*(\"[^\"]*\"|'[^']*'|[^)\"']*)\s*\)\s*(.*)", re.DOTALL | re.IGNORECASE)


def parse_url(value: str | None) -> tuple[str, str] | None:
    """Read `url(#id) fallback`.

    Returns:
        What stands in the brackets, and the rest; None for anything else.
    """
    match = _URL.fullmatch(value.strip()) if value else None
    return (match[1].strip("\"' "), match[2].strip()) if match else None
