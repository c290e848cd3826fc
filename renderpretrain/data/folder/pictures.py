"""Pictures beside ``frames.json``: formats, bits, orientation; a fault names file, frame and field."""

from dataclasses import dataclass, replace
from io import BufferedReader, BytesIO

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import PREFIXES, TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError, brief
from renderpretrain.data.folder.schema import (
    DepthLayout,
    IndoorFolder,
    IndoorFrame,
    Orientation,
    OutdoorFrame,
)

PICTURE_BYTES = 2**28
"""Largest file of a picture."""

DEEP = 65535
"""Largest value of 16 bits."""

FLAT = 1 / 8
"""A picture of 16 bits that spans less of its range than this looks like a wall of one grey."""

ORIENTATION = 0x0112
"""EXIF's number of the field."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What each orientation of EXIF asks for."""

TURNED_BACK = {**TURNS, 6: TURNS[8], 8: TURNS[6]}
"""The turns that undo those of ``TURNS``."""


@dataclass(frozen=True)
class PictureFile:
    """A picture as ``frames.json`` declares it.

    Attributes:
        access: How the folder's files are read.
        name: Its path, as ``frames.json`` says it.
        size: ``(height, width)``, pixels.
        where: How messages call its frame and field.
        orientation: What the folder says; ``None`` if nothing.
        levels: What is black and what is white; ``None`` for 0 and the largest value of its type.
        layout: Of a depth image whose bytes are no picture's file, together with its own ``(height, width)``.
    """

    access: FolderAccess
    name: str
    size: tuple[int, int]
    where: str
    orientation: Orientation | None = None
    levels: list[float] | None = None
    layout: tuple[DepthLayout, tuple[int, int]] | None = None

    def fault(self, words: str) -> SceneFolderError:
        """The error that says what was expected and what came."""
        return SceneFolderError(f"{self.access.path / self.name}: {self.where}: {words}")

    def doubt(self, kind: str, words: str) -> None:
        """Note something that looks wrong with the picture."""
        self.access.doubt(kind, self.name, self.where, words)


def frame_pictures(access: FolderAccess, frame: OutdoorFrame, name: str) -> dict[str, PictureFile]:
    """The pictures of an outdoor frame's cameras, by their names."""
    return {
        camera: PictureFile(
            access,
            entry.file,
            (entry.height, entry.width),
            f"{name}: cameras.{brief(camera)}",
            entry.orientation,
            entry.levels,
        )
        for camera, entry in frame.cameras.items()
    }


def view_pictures(
    access: FolderAccess, folder: IndoorFolder, frame: IndoorFrame, name: str
) -> dict[str, PictureFile]:
    """The files of an indoor view by their fields: ``color`` and perhaps ``depth``, ``semseg``."""
    size = (frame.height, frame.width)
    color = PictureFile(access, frame.color, size, f"{name}: color", folder.orientation, folder.levels)
    files = {"color": color}
    for field, file in (("depth", frame.depth), ("semseg", frame.semseg)):
        if file is not None:
            files[field] = replace(color, name=file, where=f"{name}: {field}")
    if "depth" in files and frame.depth_layout and frame.depth_height and frame.depth_width:
        layout = frame.depth_layout, (frame.depth_height, frame.depth_width)
        files["depth"] = replace(files["depth"], layout=layout)
    return files


def read_image(entry: PictureFile, image_size: tuple[int, int]) -> np.ndarray:
    """An RGB picture as uint8 ``(H, W, 3)``, averaged down (or interpolated up) to ``image_size``.

    Of 16 bits, the whole range (or what ``levels`` says) is spread over the 8 bits.

    Raises:
        SceneFolderError: If the picture is missing, broken or of another size than declared.
    """
    height, width = image_size
    picture = _turned(entry, image_size)
    shrinks = height <= picture.height and width <= picture.width
    method = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    if picture.size != (width, height):
        picture = picture.resize((width, height), method)
    values = np.array(picture)
    if values.ndim == 3:
        return values
    return np.repeat(values.round().clip(0, 255).astype(np.uint8)[..., None], 3, -1)


def opened(entry: PictureFile, stream: BufferedReader | BytesIO) -> ImageFile:
    """A picture of which nothing is decoded yet: of no format but the four that are safe to try."""
    start = stream.read(12)
    stream.seek(0)
    if start.startswith(b"\x89PNG"):
        return PngImageFile(stream)
    if start.startswith(b"\xff\xd8\xff"):
        return JpegImageFile(stream)
    if start.startswith(b"RIFF") and start.endswith(b"WEBP"):
        return WebPImageFile(stream)
    if start.startswith(tuple(PREFIXES)):
        return TiffImageFile(stream)
    got = "another kind of file" if start else "0 bytes"
    raise entry.fault(f"expected a readable image (PNG, JPEG, WebP or TIFF), got {got}")


def _turned(entry: PictureFile, image_size: tuple[int, int]) -> Image.Image:
    """The picture the right way up, RGB or (of 16 bits) float in 0 to 255; perhaps shrunk already."""
    with entry.access.open(entry.name, entry.where, PICTURE_BYTES, "image") as stream:
        try:
            image = opened(entry, stream)
            # Of colours of 16 bits Pillow keeps the upper byte, and says so nowhere else.
            deep = any(";16" in str(tile) for tile in image.tile)
            stored = _stored_size(image)
            turn = _turn(entry, image, stored)
            _shrink(image, image_size if _upright(stored, turn) == stored else image_size[::-1])
            return _transposed(_eight_bits(entry, image, deep), TURNS.get(turn))
        except SceneFolderError:
            raise
        except Exception as error:  # of someone else's file, Pillow raises anything
            raise entry.fault(f"expected a readable image, got: {error}") from error


def _exif_orientation(image: ImageFile) -> int:
    """What the EXIF data says, 1 if nothing."""
    try:
        tag = image.tag_v2.get(ORIENTATION) if isinstance(image, TiffImageFile) else None
        tag = image.getexif().get(ORIENTATION, 1) if tag is None else tag
    except Exception:  # of someone else's file, Pillow raises anything
        return 1
    return tag if tag in TURNS else 1


def _stored_size(image: ImageFile) -> tuple[int, int]:
    """``(height, width)`` of the pixels as stored; Pillow turns TIFF by itself."""
    turns = isinstance(image, TiffImageFile) and _exif_orientation(image) > 4
    return (image.width, image.height) if turns else (image.height, image.width)


def _upright(stored: tuple[int, int], turn: int) -> tuple[int, int]:
    """The size of a picture that is turned so."""
    return stored[::-1] if turn > 4 else stored


def _turn(entry: PictureFile, image: ImageFile, stored: tuple[int, int]) -> int:
    """Which orientation to apply to the pixels as stored: what the folder says, or what its sizes leave."""
    if entry.size not in (stored, stored[::-1]):
        raise of_another_size(entry, stored)
    tag = _exif_orientation(image)
    if entry.orientation is not None:
        turn = tag if entry.orientation == "exif" else 1
    else:
        turn = tag if _upright(stored, tag) == entry.size != stored else 1
        if turn != tag:
            entry.doubt(
                "orientation",
                f"expected no EXIF orientation, got {tag}: the pixels are taken as they are stored; "
                '"orientation": "exif" turns them, "orientation": "stored" says that they are right',
            )
    if _upright(stored, turn) != entry.size:
        raise of_another_size(entry, _upright(stored, turn))
    return turn


def of_another_size(entry: PictureFile, size: tuple[int, int]) -> SceneFolderError:
    """The error for a picture that is not as large as declared."""
    return entry.fault(
        f"expected {entry.size[1]} x {entry.size[0]} pixels as frames.json declares, got {size[1]} x "
        f"{size[0]}"
    )


def _shrink(image: ImageFile, image_size: tuple[int, int]) -> None:
    """Let JPEG decode at 1/2, 1/4 or 1/8 for less work; only exact divisions keep the image edge to edge."""
    for factor in (8, 4, 2):
        whole = not image.height % factor and not image.width % factor
        if whole and image.height >= 2 * factor * image_size[0] and image.width >= 2 * factor * image_size[1]:
            image.draft("RGB", (image.width // factor, image.height // factor))
            return


def _eight_bits(entry: PictureFile, image: ImageFile, deep: bool) -> Image.Image:
    """The pixels as stored, RGB or (grey of 16 bits) float in 0 to 255; ``deep`` if they have 16 bits."""
    tag = _exif_orientation(image) if isinstance(image, TiffImageFile) else 1
    image.load()
    picture = _transposed(image, TURNED_BACK.get(tag))
    if picture.mode.startswith("I"):
        return _sixteen_bits(entry, np.asarray(picture))
    if picture.mode == "F":
        raise entry.fault("expected 8 or 16 bits a channel, got floating point numbers")
    rgb = (picture.convert("RGBA") if "transparency" in picture.info else picture).convert("RGB")
    if entry.levels is None:
        if deep and np.asarray(rgb).max() < FLAT * 255:
            entry.doubt(
                "levels", "expected colours that span their 16 bits, got nearly black ones: write 8 bits"
            )
        return rgb
    black, white = np.asarray(entry.levels) / (257 if deep else 1)
    table = ((np.arange(256) - black) / (white - black) * 255).round().clip(0, 255)
    return rgb.point(table.astype(int).tolist() * 3)


def _sixteen_bits(entry: PictureFile, values: np.ndarray) -> Image.Image:
    """A grey picture of 16 bits, as float in 0 to 255."""
    least, most = int(values.min()), int(values.max())
    if least < 0 or most > DEEP:
        raise entry.fault(f"expected 8 or 16 bits a channel, got values from {least} to {most}")
    if entry.levels is None and most - least < FLAT * DEEP:
        entry.doubt(
            "levels",
            f"expected a picture that spans its 16 bits, got values from {least} to {most}; "
            f'"levels": [{least}, {max(most, least + 1)}] makes these black and white',
        )
    black, white = entry.levels or (0, DEEP)
    spread = (values.astype(np.float32) - black) * np.float32(255 / (white - black))
    return Image.fromarray(spread.clip(0, 255))


def _transposed(picture: Image.Image, turn: Image.Transpose | None) -> Image.Image:
    """The picture, turned or mirrored as its orientation asks."""
    return picture if turn is None else picture.transpose(turn)
