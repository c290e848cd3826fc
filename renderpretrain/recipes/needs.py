"""What each recipe cannot do without, as its configuration says; looked up before anything is read."""

from renderpretrain.data import Needs
from renderpretrain.recipes.ns_mae_config import NSMAEConfig


def ns_mae_needs(config: NSMAEConfig) -> Needs:
    """Of NS-MAE with the sensors it is set to."""
    return Needs(
        images=config.modality != "lidar",
        points=config.modality != "camera",
        most_cameras=config.calibration.places,
        ways={"images": "modality=lidar", "points": "modality=camera"},
    )
