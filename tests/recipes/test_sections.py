"""What recipes share of their sensors."""

import torch

from renderpretrain.recipes.branches import channels_last


def test_channels_come_last_in_memory_and_nowhere_else():
    images = torch.rand(2, 3, 3, 8, 12)
    moved = channels_last(images)
    assert torch.equal(moved, images)
    flat = moved.flatten(0, 1)
    assert flat.data_ptr() == moved.data_ptr()  # no copy undoes it
    assert flat.is_contiguous(memory_format=torch.channels_last)
