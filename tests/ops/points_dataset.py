"""A data set that runs kernels where it is read; a file of its own, for spawned workers to import."""

import torch

from renderpretrain import ops


class PointsDataset(torch.utils.data.Dataset):
    """Item ``i``: the number of threads, and a volume read at points, both random with seed ``i``."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        torch.set_num_threads(2)  # data loaders leave their workers one
        generator = torch.Generator().manual_seed(index)
        volume = torch.rand(1, 8, 4, 9, 11, generator=generator)
        points = 11 * torch.rand(1, 3000, 3, generator=generator)
        return torch.get_num_threads(), ops.grid_sample(volume, points, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
