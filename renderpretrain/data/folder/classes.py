"""From the numbers that a recording stores for classes to class numbers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class StoredClasses:
    """Which stored numbers are classes.

    Attributes:
        named: Class numbers below this have a name.
        numbers: Class number of each stored number, -1 for none; ``None`` where stored numbers are classes.
    """

    named: int
    numbers: Mapping[int, int] | None = None

    def of(self, values: np.ndarray, doubt: Callable[[str, str], None]) -> np.ndarray:
        """Class numbers as int64, -1 for none; the largest number of the stored type needs no name.

        Args:
            values: Stored integers of any shape.
            doubt: Told of numbers that are no class, with a kind and words.
        """
        if self.numbers is None:
            known = values < self.named
            classes, table = np.where(known, values.astype(np.int64), -1), "semseg_classes"
        else:
            stored, place = np.unique(values, return_inverse=True)
            found = np.array([self.numbers.get(int(number), -1) for number in stored], dtype=np.int64)
            known = np.isin(stored, list(self.numbers))[place].reshape(values.shape)
            classes, table = found[place].reshape(values.shape), "semseg_map"
        odd = values[~known & (values != np.iinfo(values.dtype).max)]
        if len(odd):
            doubt("classes", f"expected class numbers that {table} names, got {odd.max()}: it is no class")
        return classes
