"""What PonderV2's two recipes share: class names and their vectors, the terms that need them, settings.

The released code is https://github.com/OpenGVLab/PonderV2; one encoder and one way of rendering serve streets
and rooms.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from renderpretrain import losses
from renderpretrain.data import Batch
from renderpretrain.encoders import VoxelEncoder, Voxels, check_point_encoder, needs_trial
from renderpretrain.fields import Embeddings, SDFField, hashed_embeddings, load_embeddings
from renderpretrain.geometry import VoxelGrid
from renderpretrain.recipes.sections import RAY_RULES, SAMPLER_RULES, BalanceName, FieldConfig, RayLossConfig
from renderpretrain.recipes.settings import (
    CYCLE,
    OURS,
    UNSCHEDULED,
    Depths,
    Settings,
    Unused,
    VoxelSize,
    Width,
    Widths,
    listed,
    moved,
    unused,
)
from renderpretrain.renderers import Rendered, VolumeRenderer
from renderpretrain.samplers import RayTargets

CODE = "https://github.com/OpenGVLab/PonderV2, aad65d6; configurations in configs"

EMBEDDINGS = "An .npz of class names and vectors, or hashed:C for C random numbers per name."


class UNetConfig(Settings):
    """The sparse U-Net that is pre-trained, and its voxels."""

    voxel_size: VoxelSize = (0.1, 0.1, 0.1)
    stem_channels: Width = Field(32, gt=0, description="Width of the stem.")
    channels: Widths = Field(
        (32, 64, 128, 256, 256, 128, 96, 96), description="Width per stage, down, then up."
    )
    depths: Depths = Field((2, 3, 4, 6, 2, 2, 2, 2), description="Residual blocks per stage.")
    batch_norm_momentum: float = Field(
        0.01, gt=0, le=1, description="Weight of the newest batch in the running statistics."
    )


class DistanceFieldConfig(FieldConfig):
    """A field of signed distances; PonderV2 has no other."""

    kind: Literal["sdf"] = Field("sdf", description="Signed distances.")


class SemanticLossConfig(RayLossConfig):
    """The same with the term that compares rendered embeddings with those of classes."""

    semantic: float = Field(0.0, ge=0, description="Needs embeddings and classes of what rays hit.")
    temperature: float = Field(0.01, gt=0, description="Of the softmax over classes.")
    balance: BalanceName = Field("fixed", description="What learns to weigh the terms further, or nothing.")

    def terms(self) -> list[str]:
        """The terms that are on, in the order of the settings."""
        names = ("depth", "rgb", "free_space", "sdf", "eikonal", "semantic", "alignment")
        return [name for name in names if getattr(self, name, 0)]


SHARED_SOURCES = listed(
    {
        "code spconv_unet_v1m1_base.py:86-278": (
            "encoder.stem_channels encoder.channels encoder.depths encoder.batch_norm_momentum"
        ),
        "code render_utils/models/neus.py": "field.kind field.opacity",
        "ours": "losses.balance",
        "code render_utils/fields/sdf_field.py:38-55": "field.sharpness",
        "code render_utils/ray_samplers.py:325-464": "sampler.kind sampler.sharpness",
    }
) | listed(
    {
        "code ponder/engines/train.py:178-203": "clip_norm sync_batch_norm",
        "code ponder/utils/scheduler.py:108-143": "cyclic_momentum warmup_steps",
        "ours": f"{OURS} lr_multipliers".replace(" sync_batch_norm", ""),
    },
    "optimization.",
)
"""Where the numbers come from that streets and rooms have in common."""

SHARED_CYCLE = CYCLE.replace(" cyclic_momentum", "")
"""Settings of the schedule whose numbers are their own."""

SHARED_RULES: tuple[Unused, ...] = (
    *UNSCHEDULED,
    *RAY_RULES,
    *SAMPLER_RULES,
    unused("field.rgb_blocks", when={"losses.rgb": 0, "losses.semantic": 0}),
)
"""What turns settings off that both have."""

FORMER_NAMES = moved("field", "sampler", "upsample_sharpness:sharpness num_samples num_importance near")
"""Names that settings of both had."""

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


def check_parts(
    encoder: nn.Module, renderer: VolumeRenderer, voxels: VoxelGrid, columns: tuple[str, ...]
) -> tuple[SDFField, int]:
    """The field that is rendered, and the width of the encoder's features.

    Args:
        encoder: Tried on a few voxels, unless it is of this package.
        renderer: Of the field.
        voxels: The voxels' grid.
        columns: What the encoder reads of a point.

    Raises:
        ValueError: If the encoder does not meet its contract, or the field has no signed distances.
    """
    width = width_of(encoder)
    if not isinstance(renderer.field, SDFField):
        raise ValueError(f"renderer.field: expected an SDFField, got {type(renderer.field).__name__}")
    if needs_trial(encoder):
        check_point_encoder(encoder, len(columns), voxels)
    return renderer.field, width


def width_of(encoder: object) -> int:
    """The width of an encoder's features; raises a ``ValueError`` unless it is a module that says it."""
    if not isinstance(encoder, nn.Module) or not isinstance(encoder, VoxelEncoder):
        raise ValueError(
            f"encoder: expected a module with out_channels, got {type(encoder).__name__}; a dense network "
            "goes into VolumeEncoder, one on lists of points into FlatEncoder"
        )
    return encoder.out_channels


def read_vectors(
    source: str | None, terms: dict[str, float], *, unnamed: bool = False
) -> ClassVectors | None:
    """The class embeddings, where a term asks for them.

    Args:
        source: Where they are; see :class:`ClassVectors`.
        terms: Weights of the terms that need them, by the names of their settings.
        unnamed: Whether scenes may come without classes.

    Raises:
        ValueError: If one does and there is no source.
    """
    on = [name for name, weight in terms.items() if weight]
    if not on:
        return None
    if source is None:
        off = " ".join(f"{name}=0" for name in on)
        raise ValueError(
            f"embeddings: expected an .npz of class vectors, for {' and '.join(on)} is on; got none: "
            f"give the file, or embeddings=hashed:64, or set {off}"
        )
    return ClassVectors(source, unnamed=unnamed)


def known_labels(
    batch: Batch, what: Literal["points", "pixels"], advice: str, *, optional: bool = False
) -> Tensor:
    """The classes of points or pixels.

    Args:
        batch: Where they are.
        what: Of what.
        advice: How to do without, for the error message.
        optional: Whether a batch may have none; then all are -1.

    Raises:
        ValueError: If there are none.
    """
    views = batch.views
    labels, shape = batch.points.labels, batch.points.valid.shape
    if what == "pixels":
        labels = None if views is None else views.labels
        shape = shape if views is None else views.images[:, :, 0].shape
    if labels is not None:
        return labels
    if optional:
        return torch.full(shape, -1, device=batch.device)
    raise ValueError(
        f"scene {batch.names[0]!r} has no classes of {what}: the semantic term needs them; set {advice}"
    )


def semantic_terms(
    rendered: Rendered, targets: RayTargets, weights: SemanticLossConfig, vocabulary: Vocabulary | None
) -> dict[str, Float[Tensor, ""]]:
    """The weighted term of rendered embeddings, where there is a vocabulary."""
    if vocabulary is None or targets.labels is None or not weights.semantic:
        return {}
    wanted, known = vocabulary.embeddings.targets(vocabulary.rows_of(targets.labels))
    features, valid = rendered.channels["semantic"], known & targets.hit
    nce = losses.semantic_info_nce(features, wanted, valid, temperature=weights.temperature)
    return {"semantic": weights.semantic * nce}


def alignment(
    features: Float[Tensor, "M C"],
    voxels: Voxels,
    labels: Int[Tensor, "B P"],
    vocabulary: Vocabulary,
    temperature: float,
) -> Float[Tensor, ""]:
    """PPT's term: every point's voxel is told from the other classes of its own data set, by cosine.

    Mean over each sample's points that were voxelised and have a class, then over the batch.
    """
    rows, voxel = vocabulary.rows_of(labels), voxels.point_to_voxel
    known = (rows >= 0) & (voxel >= 0)
    if not len(features) or not vocabulary.embeddings.names:
        return 0 * features.sum()
    allowed = (vocabulary.labels >= 0)[voxels.coords[:, 0].long()]
    vectors = vocabulary.embeddings.vectors
    log_p = losses.class_log_probabilities(features, vectors, allowed, temperature=temperature)
    own = log_p[torch.where(known, voxel, 0), torch.where(known, rows, 0)]
    return losses.masked_mean(-own, known)
