"""What each recipe cannot do without, as its configuration says; looked up before anything is read."""

from renderpretrain.data import Needs
from renderpretrain.recipes.calibration import CalibrationConfig
from renderpretrain.recipes.ns_mae_config import NSMAEConfig
from renderpretrain.recipes.unipad_config import UniPADConfig


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


def _places(calibration: CalibrationConfig) -> tuple[int, str] | None:
    """Cameras whose poses are learned have places."""
    return (calibration.num_cameras, "calibration.num_cameras") if calibration.refine else None
