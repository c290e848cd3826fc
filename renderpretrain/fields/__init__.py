"""What space holds: fields turn a volume and points into opacity, colour, embedding and distance.

A field is any callable ``(volume, rays, samples) -> FieldSamples``.
"""

from renderpretrain.fields.decoder import InjectedMLP
from renderpretrain.fields.density import DensityField, OccupancyField
from renderpretrain.fields.embeddings import Embeddings, hashed_embeddings, load_embeddings
from renderpretrain.fields.encodings import encoded_channels, frequency_encoding
from renderpretrain.fields.heads import ChannelHeads
from renderpretrain.fields.opacity import (
    NeuSOpacity,
    VolSDFOpacity,
    density_alphas,
    laplace_densities,
    occupancy_densities,
)
from renderpretrain.fields.samples import (
    Channel,
    FieldAnswer,
    FieldSamples,
    LinearChannel,
    NeuSSamples,
    SurfaceField,
)
from renderpretrain.fields.sdf import SDFField

__all__ = [
    "Channel",
    "ChannelHeads",
    "DensityField",
    "Embeddings",
    "FieldAnswer",
    "FieldSamples",
    "InjectedMLP",
    "LinearChannel",
    "NeuSOpacity",
    "NeuSSamples",
    "OccupancyField",
    "SDFField",
    "SurfaceField",
    "VolSDFOpacity",
    "density_alphas",
    "encoded_channels",
    "frequency_encoding",
    "hashed_embeddings",
    "laplace_densities",
    "load_embeddings",
    "occupancy_densities",
]
