"""Meshes and point clouds as PLY files, which every 3D viewer opens."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from renderpretrain.storage.files import write_atomically


@dataclass(frozen=True)
class Mesh:
    """Points, perhaps coloured, perhaps joined to triangles.

    Attributes:
        vertices: World metres.
        faces: Vertices of each triangle, counter-clockwise from outside; none of a point cloud.
        colours: Of the vertices, in [0, 1].
    """

    vertices: Float[Tensor, "V 3"]
    faces: Int[Tensor, "F 3"] | None = None
    colours: Float[Tensor, "V 3"] | None = None


def write_ply(path: Path, mesh: Mesh) -> Path:
    """Write a binary PLY file, atomically.

    Raises:
        OSError: If it cannot be written.
    """
    vertices = np.empty(len(mesh.vertices), [("x", "<f4"), ("y", "<f4"), ("z", "<f4")])
    for axis, name in enumerate("xyz"):
        vertices[name] = mesh.vertices[:, axis].cpu().numpy()
    parts: list[tuple[str, Sequence[str], np.ndarray]] = []
    if mesh.colours is None:
        parts.append(("vertex", [f"float {name}" for name in "xyz"], vertices))
    else:
        names = ("red", "green", "blue")
        full = np.empty(len(vertices), [*vertices.dtype.descr, *((name, "u1") for name in names)])
        for name in "xyz":
            full[name] = vertices[name]
        bytes_ = (mesh.colours.clamp(0, 1) * 255).round().byte().cpu().numpy()
        for channel, name in enumerate(names):
            full[name] = bytes_[:, channel]
        parts.append(("vertex", [*(f"float {n}" for n in "xyz"), *(f"uchar {n}" for n in names)], full))
    if mesh.faces is not None:
        faces = np.empty(len(mesh.faces), [("count", "u1"), ("corners", "<i4", 3)])
        faces["count"], faces["corners"] = 3, mesh.faces.cpu().numpy()
        parts.append(("face", ["list uchar int vertex_indices"], faces))
    header = ["ply", "format binary_little_endian 1.0"]
    for name, properties, rows in parts:
        header += [f"element {name} {len(rows)}", *(f"property {text}" for text in properties)]

    def write(file: BinaryIO) -> None:
        file.write(("\n".join([*header, "end_header"]) + "\n").encode())
        for _, _, rows in parts:
            file.write(rows.tobytes())

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, write)
    return path
