"""A bounded cache whose hit costs one dictionary look-up."""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Forgets in two generations what has not been used since the older one began.

    A strict least-recently-used order would cost a write at every hit. Here a hit in ``young`` costs nothing more; when
    ``young`` is full it becomes the old generation and what is used again is carried over. At most twice ``entries``
    entries and ``2 * size`` bytes of what callers declared are held.
    """

    __slots__ = ("_bytes", "_entries", "_old", "_size", "young")

    def __init__(self, entries: int, size: int) -> None:
        """Hold up to ``entries`` entries and ``size`` bytes in each generation."""
        self.young: dict[K, V] = {}
        self._old: dict[K, V] = {}
        self._entries = entries
        self._size = size
        self._bytes = 0

    def get(self, key: K, size: int) -> V | None:
        """Return what is kept under ``key``, whose entry counts for ``size`` bytes when it is carried over."""
        value = self.young.get(key)
        if value is None:
            value = self._old.get(key)
            if value is not None:
                self.put(key, value, size)
        return value

    def put(self, key: K, value: V, size: int) -> None:
        """Keep ``value``; ``size`` is about how many bytes key and value occupy."""
        if len(self.young) >= self._entries or self._bytes + size > self._size:
            self._old = self.young
            self.young = {}
            self._bytes = 0
            if size > self._size:
                return
        self.young[key] = value
        self._bytes += size

    def clear(self) -> None:
        """Forget everything."""
        self.young = {}
        self._old = {}
        self._bytes = 0
