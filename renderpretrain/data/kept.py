"""Scenes that are asked for again and again, kept in memory (:class:`KeptScenes`)."""

from torch import Tensor

from renderpretrain.data.scene import Scene, SceneDataset, with_tensors

MOST_BYTES = 256 * 2**20
"""What kept scenes may take: a hundred synthetic streets, or a few frames of six large pictures."""


class KeptScenes:
    """A data set that keeps what it was asked for until it is full, and reads the rest every time.

    For scenes that are read in turn, such as held-out ones at every evaluation: of more than fit, those that
    were asked for first stay, where a store of the latest would have none of them when its turn comes.

    Args:
        dataset: Where the scenes come from; the same index gives the same scene.
        most_bytes: Of all tensors that are kept.
    """

    def __init__(self, dataset: SceneDataset, most_bytes: int = MOST_BYTES) -> None:
        self.dataset, self.most_bytes = dataset, most_bytes
        self.kept: dict[int, Scene] = {}
        self.bytes = 0

    def __len__(self) -> int:
        """How many scenes there are."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> Scene:
        """Scene ``index``, the same object where it is kept: nobody changes it in place."""
        if index in self.kept:
            return self.kept[index]
        scene = self.dataset[index]
        size = scene_bytes(scene)
        if self.bytes + size <= self.most_bytes:
            self.kept[index] = scene
            self.bytes += size
        return scene


def scene_bytes(scene: Scene) -> int:
    """Bytes of all tensors of a scene, those of its other moments included."""
    sizes: list[int] = []

    def count(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    with_tensors(scene, count)
    return sum(sizes)
