"""Meshes and point clouds as PLY files, which every 3D viewer opens."""

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
        colors: Of the vertices, in [0, 1].
    """

    vertices: Float[Tensor, "V 3"]
    faces: Int[Tensor, "F 3"] | None = None
    colors: Float[Tensor, "V 3"] | None = None


def write_ply(path: Path, mesh: Mesh) -> Path:
    """Write a binary PLY file, atomically.

    Raises:
        OSError: If it cannot be written.
    """
    parts = [("vertex", *_vertices(mesh))]
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


def _vertices(mesh: Mesh) -> tuple[list[str], np.ndarray]:
    """Properties and rows of the vertices."""
    places = mesh.vertices.float().cpu().numpy()
    columns = [(f"float {name}", "<f4", places[:, k]) for k, name in enumerate("xyz")]
    if mesh.colors is not None:
        shades = (mesh.colors.clamp(0, 1) * 255).round().byte().cpu().numpy()
        columns += [(f"uchar {name}", "u1", shades[:, k]) for k, name in enumerate(("red", "green", "blue"))]
    rows = np.empty(len(places), [(name, kind) for name, kind, _ in columns])
    for name, _, values in columns:
        rows[name] = values
    return [name for name, _, _ in columns], rows
