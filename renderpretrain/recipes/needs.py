"""What each recipe cannot do without, as its configuration says; looked up before anything is read."""

from renderpretrain.data import Needs
from renderpretrain.recipes.calibration import CalibrationConfig
from renderpretrain.recipes.ns_mae_config import NSMAEConfig
from renderpretrain.recipes.ponder_config import PonderOutdoorConfig
from renderpretrain.recipes.ponder_indoor_config import PonderIndoorConfig
from renderpretrain.recipes.unipad_config import UniPADConfig
from renderpretrain.recipes.uniscene_config import UniSceneConfig


def unipad_needs(config: UniPADConfig) -> Needs:
    """Of UniPAD's three."""
    return Needs(
        images=config.modality != "lidar",
        points=config.modality != "camera" or config.losses.depth > 0,
        most_cameras=_places(config.calibration),
        ways={"points": "losses.depth=0"} if config.modality == "camera" else {},
    )


def ns_mae_needs(config: NSMAEConfig) -> Needs:
    """Of NS-MAE with the sensors it is set to."""
    return Needs(
        images=config.modality != "lidar",
        points=config.modality != "camera",
        most_cameras=_places(config.calibration),
        ways={"images": "modality=lidar", "points": "modality=camera"},
    )


def ponder_outdoor_needs(config: PonderOutdoorConfig) -> Needs:
    """Of PonderV2 outdoors, whose colour term needs cameras."""
    return Needs(
        images=config.losses.rgb > 0,
        points=True,
        labels=config.losses.semantic > 0,
        ways={"images": "losses.rgb=0", "labels": "losses.semantic=0"},
    )


def ponder_indoor_needs(config: PonderIndoorConfig) -> Needs:
    """Of PonderV2 in rooms. Where several data sets mix, some may come without classes."""
    named = config.domains == 1 and (config.losses.semantic > 0 or config.losses.alignment > 0)
    return Needs(images=True, depths=True, labels=named, most_cameras=_places(config.calibration))


def uniscene_needs(config: UniSceneConfig) -> Needs:
    """Of UniScene; frames are joined by their poses."""
    places = (config.attention.num_cameras, "attention.num_cameras")
    return Needs(
        images=True,
        points=True,
        poses=config.history > 0 or config.labels.reach > 0,
        most_cameras=places if config.lifter == "bevformer" else None,
    )


def _places(calibration: CalibrationConfig) -> tuple[int, str] | None:
    """Cameras whose poses are learned have places."""
    return (calibration.num_cameras, "calibration.num_cameras") if calibration.refine else None
