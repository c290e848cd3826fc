"""nuScenes (https://www.nuscenes.org) by its name: raw tables, or the info files made of them."""

from collections.abc import Collection
from typing import Any

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError
from renderpretrain.data.folder.reader import Reader
from renderpretrain.data.readers.nuscenes.infos import frames_of_infos
from renderpretrain.data.readers.nuscenes.labels import KINDS, read_labels
from renderpretrain.data.readers.nuscenes.names import SPLITS, split_scenes
from renderpretrain.data.readers.nuscenes.raw import frames_of
from renderpretrain.data.readers.nuscenes.tables import read_samples
from renderpretrain.data.readers.tables import text_of

VERSIONS = ("v1.0-trainval", "v1.0-test", "v1.0-mini")
"""Folders of tables, the largest first."""


def read_nuscenes(
    access: FolderAccess,
    version: str | None = None,
    split: str | None = None,
    classes: str = "official",
    labels: str | None = None,
    infos: str | None = None,
) -> dict[str, Any]:
    """Key frames in order, with the sweeps between them, as ``frames.json`` would describe them.

    Args:
        access: Of the folder that holds the tables' folder, ``samples`` and ``sweeps``.
        version: The tables' folder; by default the one that the split is of, or the largest there is.
        split: An official list of scenes, ``train``, or a file of names of scenes that ends in ``.txt``; by
            default all scenes.
        classes: ``official``: the ten classes of detection and sixteen of segmentation; ``raw``: categories.
        labels: ``lidarseg``, ``panoptic`` or ``none``; by default the first of them that is there.
        infos: An info file of mmdetection3d or OpenPCDet in the folder, instead of tables: it says which
            frames there are. Classes of points are in no info.

    Raises:
        SceneFolderError: If a table is missing or broken.
    """
    if infos is not None:
        if version or split or labels:
            raise SceneFolderError(
                f"{access.path / infos}: infos: expected no version, split or labels beside, got some"
            )
        frames = frames_of_infos(access, infos, classes == "raw")
        return {"format": "multicam_lidar", "dataset": "nuScenes", "frames": frames}
    version = version or _version(access, split)
    samples = read_samples(access, version, _scenes(access, split))
    of_points = read_labels(access, version, labels, classes == "raw")
    return {
        "format": "multicam_lidar",
        "dataset": f"nuScenes {version}",
        **of_points.classes,
        "frames": frames_of(access, version, samples, of_points, classes == "raw"),
    }


def _version(access: FolderAccess, split: str | None) -> str:
    """The folder of tables where nobody says which."""
    names = access.names("")
    there = [name for name in VERSIONS if name in names]
    there += [name for name in names if name.startswith("v1.0-") and name not in VERSIONS]
    if not there:
        wanted = ", ".join(VERSIONS)
        raise SceneFolderError(f"{access.path}: expected a folder of tables ({wanted}), got none")
    named = {"test": "v1.0-test", "mini_train": "v1.0-mini", "mini_val": "v1.0-mini"}
    of_split = named.get(split or "")
    return of_split if of_split in there else there[0]


def _scenes(access: FolderAccess, split: str | None) -> Collection[str] | None:
    """Names of the scenes of a split; ``None`` for all there are."""
    if split is None:
        return None
    return set(split_scenes(split) if split in SPLITS else text_of(access, split).split())


def _split(text: str) -> str:
    """The name of an official split, or of a file."""
    if text not in SPLITS and not text.endswith(".txt"):
        raise ValueError
    return text


def _pickle(text: str) -> str:
    """The name of a pickle."""
    if not text.endswith(".pkl"):
        raise ValueError
    return text


def _folder(text: str) -> str:
    """The name of a folder within the recording's."""
    if not text or "/" in text or text.startswith("."):
        raise ValueError
    return text


def _one_of(*names: str) -> Any:
    """Reads one of a few words."""
    return {name: name for name in names}.__getitem__


NUSCENES = Reader(
    "nuscenes",
    read_nuscenes,
    "",
    {
        "version": (_folder, "the name of a folder of tables, such as v1.0-mini"),
        "split": (_split, f"{', '.join(SPLITS)}, or a file of names of scenes that ends in .txt"),
        "classes": (_one_of("official", "raw"), "official or raw"),
        "infos": (_pickle, "the name of an info file, ending in .pkl"),
        "labels": (_one_of(*KINDS, "none"), "lidarseg, panoptic or none"),
    },
)
