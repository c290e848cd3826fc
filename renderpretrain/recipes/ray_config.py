"""Which of a scene's rays are rendered, and what counts of them: settings that recipes have in common."""

from pydantic import Field

from renderpretrain.recipes.settings import Count, Distance, Settings


class RayConfig(Settings):
    """Choice of rays, and where along them something may be."""

    near: Distance = Field(1.0, ge=0, description="Metres in front of the sensor that hold nothing.")
    rays_per_camera: Count = Field(512, gt=0)
    rays_per_sweep: Count = Field(3072, gt=0, description="Rays where there are no cameras.")
    near_radius: Distance = 3.0
    far_radius: Distance = 50.0
    stride: Count = Field(4, gt=0, description="Pixels between the filler's grid points.")
    sky: float = Field(0.4, ge=0, lt=1, description="Share of the image height without filler.")


class RayLossConfig(Settings):
    """Weights, depth and distance terms per metre; a term of weight 0 is left out."""

    depth: float = Field(10 / 108, ge=0)
    rgb: float = Field(0.0, ge=0, description="Needs cameras.")
    free_space: float = Field(0.0, ge=0)
    sdf: float = Field(0.0, ge=0, description="Near-surface term.")
    eikonal: float = Field(0.0, ge=0)
    truncation: float = Field(1.0, gt=0, description="Metres around a measured surface.")
    inliers: float | None = Field(
        None,
        gt=0,
        description="Rays with errors beyond about so many medians of their sample's count less, depth and "
        "colour each for itself; null: all alike. Rays that are merely hard lose too. Published: null.",
    )
