# A masking policy of your own: hide what is far away, and some of the rest. Any callable (candidates, seeds)
# -> mask will do. What is left goes through a strided sparse encoder and is rendered.
import torch
from torch import Tensor

from renderpretrain import VoxelGrid
from renderpretrain.data import SyntheticStreet, collate
from renderpretrain.encoders import SparseEncoder, voxelize
from renderpretrain.fields import SDFField
from renderpretrain.masking import Either, RandomMask, hidden_voxels, occupied_blocks
from renderpretrain.renderers import VolumeRenderer
from renderpretrain.samplers import LidarBeams, NeuSImportance


class HideBeyond:
    """Hide every occupied block whose centre is farther than ``radius`` metres from the sensor."""

    def __init__(self, blocks: VoxelGrid, radius: float) -> None:
        self.far = blocks.centers()[..., :2].norm(dim=-1) > radius  # (Z, Y, X)

    def __call__(self, candidates: Tensor, seeds: Tensor) -> Tensor:  # bool (B, Z, Y, X)
        return candidates & self.far


grid = VoxelGrid((-51.2, -51.2, -4.0, 51.2, 51.2, 4.8), voxel_size=(0.4, 0.4, 0.4))
blocks = VoxelGrid(grid.point_cloud_range, voxel_size=(3.2, 3.2, 4.4))  # metres, (x, y, z)
block = (11, 8, 8)  # the voxels of a block, in the order of tensors: (z, y, x)
policy = Either((HideBeyond(blocks, radius=20.0), RandomMask(ratio=0.5)))  # each with seeds of its own

batch = collate([SyntheticStreet(num_scenes=1)[0]])
voxels = voxelize(batch.points.columns(), batch.points.valid, grid)
occupied = occupied_blocks(voxels.coords, block, (1, *blocks.shape))
hidden = hidden_voxels(voxels.coords, block, policy(occupied, batch.seeds))

encoder = SparseEncoder(5, 32, channels=((16, 32), (32, 32)), strides=((2, 2, 2),), paddings=((1, 1, 1),))
volume = encoder(voxels.to_sparse(hidden))
print(f"{len(hidden)} voxels, {hidden.float().mean():.0%} hidden, volume {tuple(volume.shape)}")
distance = torch.linalg.vector_norm(voxels.features[~hidden][:, :2], dim=1)
print(f"farthest visible voxel: {distance.max():.1f} m")

# The encoder strides, so its volume lies on a grid of its own: that is what is rendered.
field = SDFField(encoder.output_grid(grid), channels=32, extent=51.2)
beams = LidarBeams(num_rays=512)(batch)
renderer = VolumeRenderer(field, NeuSImportance(field))
rendered = renderer(volume, beams.rays, batch.seeds)
print(
    f"depth of {rendered.depth.shape[1]} beams before any training: {rendered.depth.mean():.1f} m on average"
)
