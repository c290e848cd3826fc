"""Scenes that are asked for again and again."""

from torch.testing import assert_close

from renderpretrain.data import KeptScenes, SyntheticStreet
from renderpretrain.data.kept import scene_bytes


class Counted(SyntheticStreet):
    """Streets that note what was read of them."""

    def __getitem__(self, index):
        self.read.append(index)
        return super().__getitem__(index)


def streets():
    scenes = Counted(3, image_size=(16, 24), points_per_beam=60, with_truth=False)
    scenes.read = []
    return scenes


def test_what_is_kept_is_read_once_and_is_the_same():
    scenes = streets()
    kept = KeptScenes(scenes)
    assert len(kept) == 3
    first = [kept[index] for index in (0, 2, 0, 2)]
    assert scenes.read == [0, 2] and first[0] is first[2]
    assert_close(first[1].points, scenes[2].points, rtol=0, atol=0)


def test_what_came_first_stays_when_it_is_full():
    scenes = streets()
    kept = KeptScenes(scenes, most_bytes=2 * scene_bytes(streets()[0]) + 1000)
    for _ in range(3):
        for index in range(3):
            kept[index]
    assert sorted(scenes.read) == [0, 1, 2, 2, 2]


def test_a_scene_is_as_large_as_its_tensors():
    scene = streets()[1]
    images, points = scene.images, scene.points
    assert scene_bytes(scene) >= 4 * (images.numel() + points.numel())
    assert scene_bytes(scene) < 2 * 4 * (images.numel() + points.numel())
