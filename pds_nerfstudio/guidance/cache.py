"""A mapping of bounded size that forgets what was used longest ago."""

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class BoundedCache(Generic[Value]):
    """At most `capacity` values by key; the least recently used one makes room (LRU).

    Raises:
        ValueError: If `capacity` is less than one.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a cache needs room for at least one value, got capacity {capacity}")
        self.capacity = capacity
        self._values: OrderedDict[Hashable, Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> Value | None:
        """Return the value kept under `key`, now the most recently used one, or None."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key]

    def put(self, key: Hashable, value: Value) -> None:
        """Keep `value` under `key`, forgetting the least recently used value if there is no room."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self.capacity:
            self._values.popitem(last=False)

    def items(self) -> Iterable[tuple[Hashable, Value]]:
        """All keys and values, the least recently used first."""
        return self._values.items()

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
