"""A small memory of decoded files: the least recently used entry goes first."""

from collections.abc import Callable
from threading import Lock
from typing import TypeVar

T = TypeVar("T")


class MemoryCache:
    """Keeps values up to a number of bytes. Threads may share it; a copy sent to a process starts empty."""

    def __init__(self, budget: int) -> None:
        """A cache of at most ``budget`` bytes."""
        self.budget = budget
        self._entries: dict[object, tuple[object, int]] = {}
        self._lock = Lock()

    def __reduce__(self) -> tuple[type["MemoryCache"], tuple[int]]:
        return MemoryCache, (self.budget,)

    @property
    def nbytes(self) -> int:
        """How much memory the entries hold, in bytes."""
        return sum(size for _, size in self._entries.values())

    def get(self, key: object, make: Callable[[], T], size: Callable[[T], int]) -> T:
        """The value under ``key``, made and remembered if it is not there; ``size`` gives its bytes."""
        with self._lock:
            entry = self._entries.pop(key, None)
            if entry is not None:
                self._entries[key] = entry
                return entry[0]  # type: ignore[return-value]
        # Made outside the lock: two threads may decode one file twice, but never wait for each other.
        value = make()
        with self._lock:
            self._entries[key] = (value, size(value))
            while self.nbytes > self.budget and len(self._entries) > 1:
                del self._entries[next(iter(self._entries))]
        return value
