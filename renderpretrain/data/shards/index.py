"""What ``shards.json`` says: which shards there are, and what is the same in all of them."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from renderpretrain.data.folder.fields import File, SceneFolderError, brief

INDEX_OF_SHARDS = "shards.json"
"""Name of the file that describes all shards."""


class Shard(BaseModel):
    """A tar file of frames.

    Attributes:
        file: Its name.
        index: Name of the JSON file that says where each frame's files lie in it.
        bytes: Its length.
        sha256: Of the whole file.
        frames: How many.
    """

    file: File
    index: File
    bytes: int = Field(ge=0)
    sha256: str
    frames: int = Field(ge=1)


class ShardIndex(BaseModel):
    """All shards of a recording.

    Attributes:
        version: Of this format.
        format: As in ``frames.json``.
        cameras: Names of the cameras in their places.
        image_size: ``(height, width)`` where all pictures have one size.
        class_names: Names of the classes; 0 is ``"free"``.
        fields: What ``frames.json`` says of all frames.
        shards: In order.
    """

    model_config = ConfigDict(extra="ignore")

    version: Literal[1]
    format: str
    cameras: list[str]
    image_size: tuple[int, int] | None
    class_names: list[str]
    fields: dict[str, Any]
    shards: list[Shard] = Field(min_length=1)


def parse_shard_index(path: Path, raw: bytes) -> ShardIndex:
    """The content of a ``shards.json``.

    Args:
        path: Where it lies, for messages.
        raw: Its bytes.

    Raises:
        SceneFolderError: With the first problem.
    """
    try:
        return ShardIndex.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "content"
        what = "a value" if first["type"] == "missing" else first["msg"]
        got = "nothing" if first["type"] == "missing" else brief(first["input"])
        raise SceneFolderError(f"{path}: {field}: expected: {what}, got {got}") from error
