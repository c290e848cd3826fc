"""Which of a scene's rays are rendered, and what counts of them: settings that recipes have in common."""

from pydantic import Field

from renderpretrain.recipes.sections import RayLossConfig
from renderpretrain.recipes.settings import Count, Distance, Settings

__all__ = ["RayConfig", "RayLossConfig"]


class RayConfig(Settings):
    """Choice of rays, and where along them something may be."""

    near: Distance = Field(1.0, ge=0, description="Metres in front of the sensor that hold nothing.")
    rays_per_camera: Count = Field(512, gt=0)
    rays_per_sweep: Count = Field(3072, gt=0, description="Rays where there are no cameras.")
    near_radius: Distance = 3.0
    far_radius: Distance = 50.0
    stride: Count = Field(4, gt=0, description="Pixels between the filler's grid points.")
    sky: float = Field(0.4, ge=0, lt=1, description="Share of the image height without filler.")
