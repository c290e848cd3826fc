"""Random changes of scenes while they are trained on, after which all sensors still agree."""

from renderpretrain.data.augment.colors import ColorChange
from renderpretrain.data.augment.images import ImageChange
from renderpretrain.data.augment.scenes import Augmentation
from renderpretrain.data.augment.world import WorldChange, moved_world

__all__ = ["Augmentation", "ColorChange", "ImageChange", "WorldChange", "moved_world"]
