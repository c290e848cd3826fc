"""How far cameras are turned against what the LiDAR measured: one number of degrees for each camera.

Jumps of depth lie on edges of a picture, and points that give back much light often on bright places. Turned
about its centre by the angles that its calibration is wrong by, a camera sees them there again. All turns
within three degrees are tried, about the three axes together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from renderpretrain.data.scan_marks import ScanMarks, scan_marks
from renderpretrain.data.scene import Scene
from renderpretrain.geometry import Cameras, pose_from_vectors

KINDS = 3
"""Kinds of marks: jumps of depth that edges belong to, upright and level, and brightness."""

STAGES = ((0.75, 4, 0.3), (0.25, 3, 0.15), (0.125, 3, 0.08))
"""Of the search: degrees between turns that are tried, how many to either side, blur of the picture in
degrees. The first goes over all turns, the others around the best of the one before."""

ANYWHERE = 200
"""Turns drawn by chance that tell how much evidence there is for any."""

MARKS = 1000
"""Most marks of a kind in a picture."""

MARGIN = 4.0
"""Degrees beyond the picture's border from which marks may be turned into it."""

BLOCKS = (3, 10)
"""Rows and columns of parts of a picture whose evidence is taken to be independent."""

NEAR_BY = 3.5
"""Degrees around a pixel, to either side, that are its neighbourhood."""

SOFT = 16.0
"""Squared deviations from which on more evidence of one kind counts less and less: all of it may come from
one line that happens to lie along another."""

UNSURE = 0.35
"""Share of the angle between two returns by which the edge between them is blurred."""

AT_ONCE = 2**15
"""Marks that are moved at a time, which fit a processor's cache."""

USUAL = 1.5
"""Degrees that a calibration is off by where nothing is known."""

SUSPECT = 0.65
"""Degrees beyond the uncertainty from which on a calibration is in doubt."""

LEAST_EVIDENCE = 14.0
"""Logarithm of how much likelier the best turn is than chance, below which nothing is measured."""

LARGEST_TURN = 2.5
"""Degrees about one axis from which on the best turn may be an accident at the border of what is tried."""

LARGEST_SPREAD = 0.5
"""Degrees of uncertainty from which on a measurement says nothing."""


@dataclass(frozen=True)
class CameraTurn:
    """By how much a camera's calibration seems to be turned.

    Attributes:
        degrees: About the camera's x axis (pitch), y axis (yaw) and z axis (roll): ``camera_to_world`` as
            given is the true one times this turn.
        spread: Uncertainty of these three, one standard deviation.
        evidence: Logarithm of how much likelier this turn is than chance.
    """

    degrees: tuple[float, float, float]
    spread: tuple[float, float, float]
    evidence: float

    @property
    def angle(self) -> float:
        """The size of the turn, degrees."""
        return math.hypot(*self.degrees)

    @property
    def uncertainty(self) -> float:
        """Standard deviation of :attr:`angle`, degrees."""
        return math.hypot(*self.spread)

    @property
    def reliable(self) -> bool:
        """Whether there was enough to measure it by."""
        sure = self.evidence >= LEAST_EVIDENCE and self.uncertainty <= LARGEST_SPREAD
        return sure and max(map(abs, self.degrees)) <= LARGEST_TURN

    @property
    def suspicious(self) -> bool:
        """Whether the calibration is in doubt."""
        return self.reliable and self.angle - self.uncertainty > SUSPECT


def camera_turns(scenes: Sequence[Scene]) -> dict[str, CameraTurn]:
    """The turn of each camera that the scenes speak for together, by the camera's name.

    Cameras whose pictures hold no marks are left out. The error is taken to be the same in all scenes: a few
    of one recording, of different places, tell more than one.

    Args:
        scenes: With pictures and points, on the CPU, and the same cameras in the same places.
    """
    marks = [scan_marks(scene) for scene in scenes]
    turns = {}
    names = scenes[0].camera_names if scenes else ()
    for place, name in enumerate(names):
        views = []
        for scene, of_scene in zip(scenes, marks, strict=True):
            if scene.images is not None and scene.cameras is not None and place in scene.cameras_there:
                views.append((scene.images[place], scene.cameras[place], of_scene))
        found = _turn(views)
        if found is not None:
            turns[name] = found
    return turns


@dataclass(frozen=True)
class _View:
    """A picture as maps, and where in it marks are, to first order in the turn of its camera.

    Attributes:
        maps: Flat: for each kind of mark how well each pixel fits it, within a border of 0.
        shape: Of one map.
        pixels: ``(2, P)`` of the marks in the maps, rows and columns.
        slopes: ``(3, 2 P)`` pixels per degree of turn about each axis.
        first: ``(P,)`` where the map of each mark's kind begins.
        sums: ``(P, kinds * blocks)``: adds up weighted evidence by kind and part of the picture.
        chance: ``(kinds,)`` variance of the sum for each kind, were its marks anywhere.
    """

    maps: Tensor
    shape: tuple[int, int]
    pixels: Tensor
    slopes: Tensor
    first: Tensor
    sums: Tensor
    chance: Tensor

    def evidence(self, turns: Tensor) -> Tensor:
        """``(G, kinds * blocks)`` of turns ``(G, 3)``, degrees from the one that the view was made with."""
        count = max(1, AT_ONCE // self.pixels.shape[1])
        return torch.cat([self._some(part) for part in turns.split(count)])

    def _some(self, turns: Tensor) -> Tensor:
        """The evidence of a few turns."""
        moved = (turns @ self.slopes).view(len(turns), 2, -1) + self.pixels
        rows = moved[:, 0].long().clamp_(0, self.shape[0] - 1)
        columns = moved[:, 1].long().clamp_(0, self.shape[1] - 1)
        return self.maps[rows.mul_(self.shape[1]).add_(columns).add_(self.first)] @ self.sums


def _turn(views: Sequence[tuple[Tensor, Cameras, ScanMarks]]) -> CameraTurn | None:
    """The turn of one camera, coarse to fine; the last stage says how sure it is, or else the first."""
    center = torch.zeros(3)
    known: list[CameraTurn] = []
    generator = torch.Generator().manual_seed(0)
    anywhere = (2 * torch.rand(ANYWHERE, 3, generator=generator) - 1) * STAGES[0][0] * STAGES[0][1]
    for step, reach, blur in STAGES:
        seen = [view for view in (_view(*given, center, blur) for given in views) if view is not None]
        if not seen:
            return None
        offsets = (torch.arange(2 * reach + 1) - reach) * step
        turns = torch.cartesian_prod(offsets, offsets, offsets)
        chance = torch.stack([view.chance for view in seen]).sum(0)
        evidence = _joined(
            [view.evidence(turns) for view in seen],
            [view.evidence(anywhere - center) for view in seen],
            chance,
        )
        likely = evidence - (turns + center).square().sum(-1) / (2 * USUAL**2)
        share = torch.softmax(likely, 0)[:, None]
        mean = (share * turns).sum(0)
        spread = (share * (turns - mean).square()).sum(0).sqrt()
        best = int(likely.argmax())
        (x, y, z), (a, b, c) = (mean + center).tolist(), spread.tolist()
        known.append(CameraTurn((x, y, z), (a, b, c), float(evidence[best])))
        center = center + turns[best]
    first, last = known[0], known[-1]
    return last if first.uncertainty < 2 * STAGES[0][0] else replace(last, spread=first.spread)


def _joined(seen: Sequence[Tensor], anywhere: Sequence[Tensor], chance: Tensor) -> Tensor:
    """Logarithm of the likelihood ``(G,)`` of turns, from evidence ``(G, kinds * blocks)`` of pictures.

    How strongly the marks of a kind show is not known, and taken as it fits best. What chance gives is told
    by the evidence of turns drawn anywhere, from part to part of the pictures.
    """
    blocks, other = (
        torch.cat([part.view(len(part), KINDS, -1) for part in parts], -1) for parts in (seen, anywhere)
    )
    mean = other.mean(0)
    variance = torch.maximum((other - mean).square().sum(-1).mean(0), chance).clamp(min=1e-6)
    strength = (blocks - mean).sum(-1).clamp(min=0).square() / variance
    return (SOFT / 2 * torch.log1p(strength / SOFT)).sum(-1)


def _view(image: Tensor, camera: Cameras, marks: ScanMarks, center: Tensor, blur: float) -> _View | None:
    """A picture and its marks, were the camera turned; ``None`` if it shows none."""
    pixel = math.radians(1) * float(camera.intrinsics[0, 0])
    border = math.ceil(2 * MARGIN * pixel)
    plain = _maps(image, pixel, blur, marks.gaps)
    maps = pad(plain, (border, border, border, border))
    now = _turned(camera, center)
    near = _within(now, marks, MARGIN * pixel)
    if not len(near):
        return None
    points, kinds = marks.xyz[near], marks.kinds[near]
    pixels, *_ = now.project(points)
    axes = torch.eye(3) * 0.1
    ends = [_turned(camera, center, axis).project(points)[0] for axis in axes]
    slopes = torch.stack([(end - pixels) / 0.1 for end in ends]).flip(-1).mT
    shape = (maps.shape[1], maps.shape[2])
    height, width = image.shape[1:]
    places = (pixels / torch.tensor([width, height])).clamp(0, 0.999)
    row, column = (places[:, 1] * BLOCKS[0]).long(), (places[:, 0] * BLOCKS[1]).long()
    sums = torch.zeros(len(near), KINDS * BLOCKS[0] * BLOCKS[1])
    weights = marks.weights[near]
    column_of = (kinds * BLOCKS[0] + row) * BLOCKS[1] + column
    sums[torch.arange(len(near)), column_of] = weights
    squares = torch.zeros(KINDS).index_add(0, kinds, weights.square())
    return _View(
        maps.flatten(),
        shape,
        pixels.flip(-1).mT + border,
        slopes.reshape(3, -1),
        kinds * shape[0] * shape[1],
        sums,
        squares * plain.square().mean((1, 2)),
    )


def _turned(camera: Cameras, *turns: Tensor) -> Cameras:
    """The camera turned about its own axes by degrees, one turn after the other."""
    pose = camera.camera_to_world
    for turn in turns:
        pose = pose @ pose_from_vectors(turn * math.radians(1), torch.zeros(3)).mT
    return replace(camera, camera_to_world=pose)


def _within(camera: Cameras, marks: ScanMarks, margin: float) -> Tensor:
    """Some marks of each kind that are in the picture or not far beside it."""
    pixels, z_depth, _ = camera.project(marks.xyz)
    height, width = camera.image_size
    high = torch.tensor([width + margin, height + margin])
    near = (z_depth > 0.5) & ((pixels > -margin) & (pixels < high)).all(-1)
    random = np.random.default_rng(0)
    chosen = [np.flatnonzero((near & (marks.kinds == kind)).numpy()) for kind in range(KINDS)]
    return torch.from_numpy(np.concatenate([random.permutation(found)[:MARKS] for found in chosen]))


def _maps(image: Tensor, pixel: float, blur: float, gaps: tuple[float, float]) -> Tensor:
    """``(kinds, H, W)``: upright edges, level edges and brightness, each against what is near by.

    Args:
        image: RGB in [0, 1].
        pixel: Pixels in a degree.
        blur: Degrees.
        gaps: Degrees within which a mark of the two kinds of edges may lie.
    """
    across, up = (max(blur, UNSURE * gap) * pixel for gap in gaps)
    grey = _blurred(image.mean(0) * 255, blur * pixel / 2)
    reach = max(6, round(NEAR_BY * pixel))
    upright, level = _edges(grey, reach), _edges(grey.mT.contiguous(), reach).mT
    mean, deviation = _near_by(grey, reach, reach)
    bright = ((grey - mean) / (deviation + 5)).clamp(-2, 2)
    return torch.stack([_blurred(upright, across), _blurred(level.contiguous(), up), bright])


def _edges(grey: Tensor, reach: int) -> Tensor:
    """How much stronger an upright edge is here than near by, -1 to 3 deviations."""
    steps = torch.zeros_like(grey)
    steps[:, 1:-1] = (grey[:, 2:] - grey[:, :-2]).abs()
    mean, deviation = _near_by(steps, max(1, reach // 6), reach)
    return ((steps - mean) / (deviation + 2)).clamp(-1, 3)  # of 255 grey levels: noise


def _near_by(values: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation within so many rows and columns to either side."""

    def mean_of(part: Tensor) -> Tensor:
        part = avg_pool2d(part[None], (1, 2 * columns + 1), 1, (0, columns), count_include_pad=False)
        return avg_pool2d(part, (2 * rows + 1, 1), 1, (rows, 0), count_include_pad=False)[0]

    mean = mean_of(values)
    return mean, (mean_of(values * values) - mean * mean).clamp(min=0).sqrt()


def _blurred(values: Tensor, sigma: float) -> Tensor:
    """Values ``(H, W)`` averaged with Gaussian weights; nothing changes where these are within a pixel."""
    if sigma < 0.3:
        return values
    reach = math.ceil(3 * sigma)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma).square())
    weights = weights / weights.sum()
    for _ in range(2):
        padded = pad(values[None, None], (reach, reach, 0, 0), mode="replicate")
        values = torch.nn.functional.conv2d(padded, weights.view(1, 1, 1, -1))[0, 0].mT
    return values
