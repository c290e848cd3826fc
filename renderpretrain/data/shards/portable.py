"""A frame as an entry of ``frames.json`` and the bytes of its files, whatever format it was read from."""

from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.depths import read_classes
from renderpretrain.data.folder.fields import CLASS_COLUMN, SceneFolderError
from renderpretrain.data.folder.files import Sweep, doubt_labels, row_labels
from renderpretrain.data.folder.geometry import room_shift
from renderpretrain.data.folder.lidar_entry import LidarEntry
from renderpretrain.data.folder.merging import older_sweeps
from renderpretrain.data.folder.pictures import PICTURE_BYTES, PictureFile, frame_pictures, view_pictures
from renderpretrain.data.folder.scene_folder import SceneFolder
from renderpretrain.data.folder.schema import OutdoorFolder, OutdoorFrame, frame_name
from renderpretrain.data.folder.stored import SWEEP_BYTES, layout_of, stored_rows

ENDS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", b"RIFF": "webp", b"II*\0": "tif", b"MM\0*": "tif"}
"""The end of a picture's name by its first bytes."""


@dataclass(frozen=True)
class PortableFrame:
    """A frame that needs nothing but itself.

    Attributes:
        entry: What ``frames.json`` says of it; names of files are those of ``files``.
        files: Bytes by short names, such as ``lidar.bin``, ``camera0.jpg``.
    """

    entry: dict[str, Any]
    files: dict[str, bytes]


def folder_fields(folder: SceneFolder) -> dict[str, Any]:
    """What ``frames.json`` says of all frames, every class by its number, those of boxes among them."""
    left_out = {"frames", "intensity_scale", "semseg_classes", "semseg_map", "clouds"}
    fields: dict[str, Any] = folder.index.model_dump(mode="json", exclude=left_out, exclude_none=True)
    return fields | {"semseg_classes": {str(n): name for n, name in enumerate(folder.class_names) if n}}


def portable_frame(folder: SceneFolder, position: int) -> PortableFrame:
    """A frame with its files: pictures and raw rows to the byte, other sweeps as rows of the same numbers.

    A scene that is read from it is the same to the bit. Class numbers are those of ``folder.class_names``;
    of cameras those are taken that the folder has.

    Args:
        folder: Any recording.
        position: Of the frame among those of the folder's index.

    Raises:
        SceneFolderError: If a file is missing, too large, or cannot be decoded.
    """
    index, access = folder.index, folder.access
    frame = index.frames[position]
    name, files = frame_name(frame), dict[str, bytes]()
    entry = frame.model_dump(mode="json", exclude_none=True, exclude={"position"})
    if isinstance(frame, OutdoorFrame) and isinstance(index, OutdoorFolder):
        _add_sweep(access, index, frame.lidar, entry["lidar"], name, files)
        entry["lidar"]["sensor_origin"] = folder.sensor_origin(position).tolist()
        _add_older(access, frame, entry, files)
        pictures = frame_pictures(access, frame, name)
        entry["cameras"] = {
            camera: entry["cameras"][camera] | {"file": _add_picture(picture, f"camera{place}", files)}
            for place, (camera, picture) in enumerate(pictures.items())
            if camera in folder.camera_names
        }
        return PortableFrame(entry, files)
    if isinstance(frame, OutdoorFrame) or isinstance(index, OutdoorFolder):
        raise TypeError(f"expected a view of a room, got {name}")
    for field, picture in view_pictures(access, index, frame, name).items():
        if field == "semseg":
            classes = read_classes(picture, index.classes)
            files["semseg.png"], entry[field] = _class_picture(classes), "semseg.png"
        else:
            entry[field] = _add_picture(picture, field, files)
    if frame.cloud is not None:
        cloud = folder.seen_cloud(position)
        entry["cloud"] = _add_cloud(cloud, room_shift(index, frame.scene), files)
    return PortableFrame(entry, files)


def _add_cloud(cloud: Sweep, shift: np.ndarray, files: dict[str, bytes]) -> dict[str, Any]:
    """Take what a view sees of its room's cloud."""
    known = {"x,y,z": cloud.points[:, :3] + shift, "r,g,b": cloud.colors, "nx,ny,nz": cloud.normals}
    there = {names: rows for names, rows in known.items() if rows is not None}
    table = np.concatenate(list(there.values()), -1, dtype=np.float64 if shift.any() else np.float32)
    files["cloud.bin"] = table.astype(table.dtype.newbyteorder("<")).tobytes()
    entry: dict[str, Any] = {"file": "cloud.bin", "layout": "rows", "dtype": table.dtype.name}
    entry["columns"] = ",".join(there).split(",")
    if cloud.labels is not None:
        numbers = _smallest(cloud.labels)
        files["cloud_labels.bin"] = numbers.astype(numbers.dtype.newbyteorder("<")).tobytes()
        entry |= {"semseg_file": "cloud_labels.bin", "semseg_dtype": numbers.dtype.name}
    return entry


def _add_picture(picture: PictureFile, short: str, files: dict[str, bytes]) -> str:
    """Take a picture's bytes; its short name."""
    raw = picture.access.read(picture.name, picture.where, PICTURE_BYTES)
    end = next((end for start, end in ENDS.items() if raw.startswith(start)), "bin")
    files[f"{short}.{end}"] = raw
    return f"{short}.{end}"


def _add_sweep(
    access: FolderAccess,
    index: OutdoorFolder,
    lidar: LidarEntry,
    entry: dict[str, Any],
    name: str,
    files: dict[str, bytes],
) -> None:
    """Take a sweep and its labels; the entry then says that they are raw rows."""
    rows = stored_rows(access, lidar, name)
    if (lidar.layout or layout_of(lidar.file)) == "rows":
        raw = access.read(lidar.file, f"{name}: lidar.file", SWEEP_BYTES)
    else:
        raw, entry["dtype"] = rows.tobytes(), rows.dtype.name
    files["lidar.bin"] = raw
    entry |= {"file": "lidar.bin", "layout": "rows"}
    for field in ("fields", "range_image", "further_images", "parts", "beside"):
        entry.pop(field, None)
    numbers = row_labels(access, lidar, name, rows)
    if numbers is not None:
        stored = (
            index.classes if lidar.semseg_map is None else replace(index.classes, numbers=lidar.semseg_map)
        )
        numbers = _smallest(stored.of(numbers, partial(doubt_labels, access, lidar, name)))
        files["labels.bin"] = numbers.astype(numbers.dtype.newbyteorder("<")).tobytes()
        entry |= {"semseg_file": "labels.bin", "semseg_dtype": numbers.dtype.name}
        entry["columns"] = ["_" if column == CLASS_COLUMN else column for column in lidar.columns]
        for field in ("semseg_column", "semseg_bits", "semseg_divisor", "semseg_map"):
            entry.pop(field, None)


def _add_older(
    access: FolderAccess, frame: OutdoorFrame, entry: dict[str, Any], files: dict[str, bytes]
) -> None:
    """Take the sweeps that a frame names beside its own, as rows of the same type as those of its own."""
    for at in older_sweeps(0, frame):
        place, kind = at.key[1], entry["lidar"]["dtype"]
        if (at.entry.layout or layout_of(at.entry.file)) == "rows" and at.entry.dtype == kind:
            raw = access.read(at.entry.file, f"{at.name}: lidar.file", SWEEP_BYTES)
        else:
            rows = stored_rows(access, at.entry, at.name)
            if rows.dtype.itemsize > np.dtype(kind).itemsize:
                where = f"{access.named(at.entry.file)}: {at.name}"
                raise SceneFolderError(f"{where}: expected {kind} as in the frame's own, got {rows.dtype}")
            raw = rows.astype(np.dtype(kind).newbyteorder("<")).tobytes()
        files[f"sweep{place}.bin"] = raw
        entry["sweeps"][place]["file"] = f"sweep{place}.bin"


def _smallest(classes: np.ndarray) -> np.ndarray:
    """Class numbers as the smallest unsigned integers that hold them; -1 is the largest of these."""
    kind = np.uint8 if classes.max(initial=0) < 255 else np.uint16
    return np.where(classes < 0, np.iinfo(kind).max, classes).astype(kind)


def _class_picture(classes: np.ndarray) -> bytes:
    """A picture of class numbers, PNG."""
    stream = BytesIO()
    Image.fromarray(_smallest(classes)).save(stream, "PNG")
    return stream.getvalue()
