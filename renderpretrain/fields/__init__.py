"""What space holds: fields turn a volume and points into opacity, colour and distance.

A field is any callable ``(volume, rays, samples) -> FieldSamples``.
"""

from renderpretrain.fields.decoder import InjectedMLP
from renderpretrain.fields.samples import FieldSamples
from renderpretrain.fields.sdf import SDFField

__all__ = ["FieldSamples", "InjectedMLP", "SDFField"]
