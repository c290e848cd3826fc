"""Class embeddings from a file: targets for a rendered embedding without the network that made them."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

MOST_BYTES = 2**28
"""Size of all arrays in a file, unpacked: some 65,000 vectors of 1024 numbers."""

HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
"""Readers of an array's shape and type, by the format's version."""


@dataclass(frozen=True)
class Embeddings:
    """Unit vectors with names, such as CLIP's of the names of classes.

    Attributes:
        names: One per vector, all different.
        vectors: Of length 1.
    """

    names: tuple[str, ...]
    vectors: Float[Tensor, "K C"]

    @property
    def channels(self) -> int:
        """The width of the vectors, one of which every class has."""
        return self.vectors.shape[1]

    def targets(
        self, labels: Int[Tensor, "*batch"]
    ) -> tuple[Float[Tensor, "*batch C"], Bool[Tensor, "*batch"]]:
        """The vectors of labels; a label outside ``[0, K)`` means none, and its vector is zero.

        Returns:
            Vectors, and which labels have one.
        """
        valid = (labels >= 0) & (labels < len(self.names))
        # Row -1, the last, is the zero vector appended here.
        vectors = torch.cat([self.vectors, self.vectors.new_zeros(1, self.channels)])
        return vectors[torch.where(valid, labels, -1).long()], valid

    def to(self, device: torch.device | str) -> "Embeddings":
        """The same embeddings on another device."""
        return Embeddings(self.names, self.vectors.to(device))


def load_embeddings(path: str | Path) -> Embeddings:
    """Read an ``.npz`` with ``names`` ``(K,)`` of text and ``vectors`` ``(K, C)`` of numbers.

    Vectors of any length are normalised. Nothing in the file is executed (no pickles).

    Raises:
        ValueError: In one line, if the file is absent, is no such archive, or its contents do not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"embeddings: expected an .npz file, found none at {path}")
    try:
        names, vectors = _read(path)
        _check(names, vectors)
    except (ValueError, OSError, EOFError, BadZipFile, RuntimeError, MemoryError, zlib.error) as error:
        raise ValueError(f"embeddings: {path}: {error}") from error
    numbers = torch.from_numpy(vectors.astype(np.float64))
    scaled = numbers / numbers.abs().amax(1, keepdim=True)  # whose squares neither overflow nor vanish
    unit = torch.nn.functional.normalize(scaled, dim=1)
    return Embeddings(tuple(str(name) for name in names), unit.float())


def hashed_embeddings(names: Sequence[str], channels: int) -> Embeddings:
    """A random direction for every name, always the same one: classes apart without a language model.

    Unlike CLIP's, these vectors do not say which classes are alike. Two of them have a cosine of about
    ``1 / sqrt(channels)``.

    Args:
        names: All different.
        channels: Width of a vector.
    """
    if channels < 1 or len(set(names)) < len(names):
        raise ValueError(f"hashed_embeddings: expected different names and channels, got {names}, {channels}")
    rows = torch.zeros(len(names), channels)
    for row, name in zip(rows, names, strict=True):
        seed = int.from_bytes(sha256(name.encode()).digest()[:7])
        row.copy_(torch.randn(channels, generator=torch.Generator().manual_seed(seed)))
    return Embeddings(tuple(names), torch.nn.functional.normalize(rows, dim=1))


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The arrays ``names`` and ``vectors``."""
    with path.open("rb") as stream:
        _check_bounds(stream)
        file = np.load(stream, allow_pickle=False)
        if not {"names", "vectors"} <= set(file.files):
            raise ValueError(f"expected arrays 'names' and 'vectors', got {sorted(file.files)}")
        return file["names"], file["vectors"]


def _check_bounds(stream: BinaryIO) -> None:
    """Raise ``ValueError`` if arrays are larger, unpacked, than embeddings are, or than their own bytes."""
    if stream.read(6) == b"\x93NUMPY":
        raise ValueError("expected an .npz archive, got a single array")
    with ZipFile(stream) as archive:
        records = archive.infolist()
        if sum(record.file_size for record in records) > MOST_BYTES:
            raise ValueError(f"expected at most {MOST_BYTES // 2**20} MiB of embeddings, got more")
        for record in records:
            with archive.open(record) as content:
                read = HEADERS.get(np.lib.format.read_magic(content))
                shape, _, dtype = read(content) if read else ((), False, np.dtype(object))
            if math.prod(shape) * dtype.itemsize > record.file_size:
                raise ValueError(f"{record.filename!r}: expected {shape} of {dtype}, got less than that")
    stream.seek(0)


def _check(names: np.ndarray, vectors: np.ndarray) -> None:
    """Raise ``ValueError`` unless the arrays are names and vectors of the same things."""
    if names.ndim != 1 or names.dtype.kind != "U" or not len(names):
        raise ValueError(f"names: expected (K,) of text, got {names.shape} of {names.dtype}")
    if vectors.ndim != 2 or len(vectors) != len(names) or vectors.dtype.kind != "f":
        raise ValueError(
            f"vectors: expected ({len(names)}, C) of floating-point numbers like names, "
            f"got {vectors.shape} of {vectors.dtype}"
        )
    doubled = sorted({str(name) for name in names if (names == name).sum() > 1})
    if doubled:
        raise ValueError(f"names: expected all different, got {doubled} more than once")
    bad = [str(n) for n, v in zip(names, vectors, strict=True) if not (np.isfinite(v).all() and v.any())]
    if bad:
        raise ValueError(f"vectors: expected finite ones that are not zero, got others for {bad}")
