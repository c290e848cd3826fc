"""What stands for the classes, objects and tensors that a pickle speaks of: names and plain values."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Named:
    """A class or function, by its name alone."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}".encode("unicode_escape").decode()


@dataclass(eq=False)
class Inert:
    """An object of a class that is not imported.

    Attributes:
        kind: Its class, or the function that would make it.
        items: What it holds as a dictionary, if it is one.
    """

    kind: str
    items: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredTensor:
    """A tensor whose numbers lie elsewhere in the file.

    Attributes:
        storage: What the pickle says of its memory: type, name, device and count.
        offset: First element in the storage.
        size: Shape.
        stride: Elements between neighbours along each axis.
        dtype: Of its elements, where the storage does not say.
    """

    storage: Any
    offset: Any
    size: Any
    stride: Any
    dtype: Named | None = None
