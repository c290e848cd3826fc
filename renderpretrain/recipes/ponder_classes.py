"""Classes by name: what the data sets of a batch call things, and the embeddings of these names."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from renderpretrain.data import Batch
from renderpretrain.fields import Embeddings, hashed_embeddings, load_embeddings

NOTHING = "free"
"""The class of empty space, which has no embedding."""


@dataclass(frozen=True)
class Vocabulary:
    """The classes of all data sets in a batch in one list; equal names are one class.

    Attributes:
        embeddings: Their vectors.
        rows: Place in that list of every sample's own classes; -1 for one without a vector.
    """

    embeddings: Embeddings
    rows: Int[Tensor, "B K"]

    def rows_of(self, labels: Int[Tensor, "B N"]) -> Int[Tensor, "B N"]:
        """Places in the list of samples' own labels; -1 for none."""
        known = (labels >= 0) & (labels < self.rows.shape[1])
        return torch.where(known, self.rows.gather(1, torch.where(known, labels, 0).long()), -1)

    @property
    def labels(self) -> Int[Tensor, "B U"]:
        """What each sample calls the classes of the list; -1 for those it does not know."""
        size = len(self.embeddings.names)
        own = self.rows.new_full((len(self.rows), size + 1), -1)
        numbers = torch.arange(self.rows.shape[1], device=own.device).expand_as(self.rows)
        return own.scatter(1, torch.where(self.rows < 0, size, self.rows), numbers)[:, :size]

    def nearest(self, features: Float[Tensor, "B R C"]) -> Int[Tensor, "B R"]:
        """The sample's own class whose vector is nearest by cosine; -1 where there are no classes."""
        if not self.embeddings.names:
            return self.rows.new_full(features.shape[:2], -1)
        labels = self.labels
        cosines = normalize(features.float(), dim=-1) @ self.embeddings.vectors.mT
        return labels.gather(1, cosines.masked_fill(labels[:, None] < 0, -2.0).argmax(-1))


class ClassVectors:
    """Embeddings of class names, from a file or from the names themselves.

    Args:
        source: ``hashed:C``, or an ``.npz`` for :func:`~renderpretrain.fields.load_embeddings`.
        unnamed: Whether scenes may come without names of classes.

    Raises:
        ValueError: If there is no such file, or it is none.
    """

    def __init__(self, source: str, *, unnamed: bool = False) -> None:
        self.source, self.unnamed = source, unnamed
        kind, _, width = source.partition(":")
        self.file: Embeddings | None = None
        if kind != "hashed":
            self.file = load_embeddings(source)
            self.channels = self.file.channels
        elif width.isdigit() and int(width):
            self.channels = int(width)
        else:
            raise ValueError(f"embeddings: expected hashed:C with a width, as hashed:64, got {source!r}")
        self._made: dict[object, Vocabulary] = {}

    def vocabulary(self, batch: Batch) -> Vocabulary:
        """The classes of a batch.

        Raises:
            ValueError: If a scene does not name its classes, or none of them has a vector.
        """
        key = (batch.class_names, batch.device)
        if key not in self._made:
            self._made[key] = self._make(batch)
        return self._made[key]

    def _make(self, batch: Batch) -> Vocabulary:
        """The list of names, and where each sample's are in it."""
        names = sorted({name for own in batch.class_names for name in own} - {NOTHING})
        known = [name for name in names if self.file is None or name in self.file.names]
        place = {name: row for row, name in enumerate(known)}
        rows = torch.full((batch.size, max([1, *map(len, batch.class_names)])), -1)
        for b, own in enumerate(batch.class_names or [()] * batch.size):
            rows[b, : len(own)] = torch.tensor([place.get(name, -1) for name in own], dtype=torch.long)
            if not set(own) & set(known) and (set(own) - {NOTHING} or not self.unnamed):
                raise ValueError(
                    f"embeddings: {self.source}: expected a vector for classes of scene {batch.names[b]!r} "
                    f"({', '.join(own) or 'it names none'}), got none; give another file, or set "
                    "losses.semantic=0"
                )
        if self.file is None:
            made = hashed_embeddings(known, self.channels)
        else:
            of_name = [self.file.names.index(name) for name in known]
            made = Embeddings(tuple(known), self.file.vectors[of_name])
        return Vocabulary(made.to(batch.device), rows.to(batch.device))
