"""Our safetensors files: the same bytes for the same weights, and a digest of all of them in the header."""

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

DIGEST = "renderpretrain_digest"
"""In the header's metadata: SHA-256 of the header without it, in its shortest form, then of the numbers."""


def pack_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file.

    Args:
        tensors: Contiguous, on the CPU.
        metadata: Text for the header.

    Raises:
        ValueError: If safetensors has no such type of numbers.
    """
    try:
        content = save(dict(tensors))
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ValueError(f"expected tensors that a safetensors file can hold ({error})") from error
    header, numbers = _split(content)
    entries = sorted(header.items(), key=lambda entry: (entry[1]["data_offsets"], entry[0]))
    header = {"__metadata__": dict(sorted(metadata.items())), **dict(entries)}
    header["__metadata__"][DIGEST] = _digest(header, numbers)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + numbers


def unpack_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file on the CPU, and its metadata; of ours the digest is checked.

    Raises:
        ValueError: If it is no whole safetensors file, or not what was written. The message lacks the path.
        OSError: If it cannot be read.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
            if DIGEST in metadata:
                header, numbers = _split(path.read_bytes())
                if header["__metadata__"].pop(DIGEST) != _digest(header, numbers):
                    raise ValueError(
                        "damaged: its digest differs from what was written; get or write it anew"
                    )
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, metadata
    except (SafetensorError, KeyError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [""])[0][:140]
        raise ValueError(f"not a whole safetensors file ({reason})") from error


def _split(content: bytes) -> tuple[dict[str, Any], memoryview]:
    """The header and the numbers of a file."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), memoryview(content)[8 + length :]


def _digest(header: Mapping[str, Any], numbers: memoryview) -> str:
    """What a header without digest and the numbers are known by."""
    text = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    hashed = hashlib.sha256(text)
    hashed.update(numbers)
    return hashed.hexdigest()
