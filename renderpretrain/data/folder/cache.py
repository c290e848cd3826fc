"""A small memory of decoded files: the least recently used entry goes first."""

from collections.abc import Callable
from threading import Lock
from typing import TypeVar

T = TypeVar("T")


class MemoryCache:
    """Keeps values up to a number of bytes. Threads may share it; a copy sent to a process starts empty.

    Attributes:
        budget: The most bytes that all entries have, unless there is but one.
        nbytes: Those they have.
    """

    def __init__(self, budget: int) -> None:
        """A cache of at most ``budget`` bytes."""
        self.budget = budget
        self.nbytes = 0
        self._entries: dict[object, tuple[object, int]] = {}
        self._lock = Lock()

    def __reduce__(self) -> tuple[type["MemoryCache"], tuple[int]]:
        return MemoryCache, (self.budget,)

    def part(self, name: object) -> "CachePart":
        """The same memory for one of several that share it, whose keys may be those of the others."""
        return CachePart(self, name)

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
            self._forget(key)  # of another thread
            self._entries[key] = (value, size(value))
            self.nbytes += size(value)
            while self.nbytes > self.budget and len(self._entries) > 1:
                self._forget(next(iter(self._entries)))
        return value

    def _forget(self, key: object) -> None:
        """Let go of an entry, if there is one."""
        self.nbytes -= self._entries.pop(key, (None, 0))[1]


class CachePart:
    """What one of several owners keeps in a memory that they share."""

    def __init__(self, whole: MemoryCache, name: object) -> None:
        """The part of the memory whose keys are told from others by a name."""
        self.whole, self.name = whole, name

    def get(self, key: object, make: Callable[[], T], size: Callable[[T], int]) -> T:
        """The value under ``key``, as :meth:`MemoryCache.get`."""
        return self.whole.get((self.name, key), make, size)


Cache = MemoryCache | CachePart
"""Where decoded files are kept."""
