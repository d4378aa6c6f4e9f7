"""The bounded cache."""

import pytest

from pds_nerfstudio.guidance.cache import BoundedCache


def test_forgets_what_was_used_longest_ago() -> None:
    cache: BoundedCache[int] = BoundedCache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)
    assert len(cache) == 2


def test_put_replaces() -> None:
    cache: BoundedCache[int] = BoundedCache(2)
    cache.put("a", 1)
    cache.put("a", 2)
    assert cache.get("a") == 2 and len(cache) == 1


def test_clear_forgets_everything() -> None:
    cache: BoundedCache[int] = BoundedCache(2)
    cache.put("a", 1)
    cache.clear()
    assert cache.get("a") is None


def test_needs_room() -> None:
    with pytest.raises(ValueError, match="at least one"):
        BoundedCache(0)
