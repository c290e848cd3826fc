import sys

import pytest
import torch
from stand_in import Points
from torch.testing import assert_close

from renderpretrain.data import SyntheticStreet, open_data, write_scene_folder
from renderpretrain.data.augment import Augmentation, WorldChange
from renderpretrain.data.folders_within import decodes_pictures
from renderpretrain.training.order import MicroBatches, Progress, sample_seeds, scene_index
from renderpretrain.training.prefetch import default_workers, prefetch


def test_every_epoch_shows_every_scene_once_in_another_order():
    first, second = ([scene_index(e * 50 + i, 50, seed=3) for i in range(50)] for e in (0, 1))
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second


def test_another_seed_gives_another_order():
    orders = [[scene_index(i, 50, seed=seed) for i in range(50)] for seed in (0, 1)]
    assert orders[0] != orders[1]


def test_seeds_depend_on_seed_step_and_position_alone():
    whole = sample_seeds(5, step=2, first=0, count=4)
    assert_close(sample_seeds(5, step=2, first=2, count=2), whole[2:], rtol=0, atol=0)  # integers
    others = [sample_seeds(5, step=3, first=0, count=4), sample_seeds(6, step=2, first=0, count=4)]
    assert len(torch.cat([whole, *others]).unique()) == 12
    assert bool((whole >= 0).all())


def test_two_processes_share_the_batch_of_one():
    one = MicroBatches(Points(), 7, seed=1, batch_size=4, accumulate=2)
    two = [
        MicroBatches(Points(), 7, seed=1, batch_size=2, accumulate=2, rank=r, world_size=2) for r in (0, 1)
    ]
    for k in range(6):
        whole, parts = one[k], [process[k] for process in two]
        assert whole.names == parts[0].names + parts[1].names
        assert torch.equal(whole.seeds, torch.cat([part.seeds for part in parts]))


def test_accumulated_batches_are_one_large_batch():
    large = MicroBatches(Points(), 7, seed=1, batch_size=4)
    small = MicroBatches(Points(), 7, seed=1, batch_size=2, accumulate=2)
    assert large[3].names == small[6].names + small[7].names
    assert torch.equal(large[3].seeds, torch.cat([small[6].seeds, small[7].seeds]))


def test_an_order_goes_on_at_the_next_sample_whatever_a_step_holds():
    one_by_one = [scene_index(p, 7, seed=1) for p in range(40)]
    seen, begun = [], Progress()
    for batch_size, accumulate, world_size, steps in ((2, 1, 2, 3), (1, 3, 1, 4), (5, 1, 1, 2)):
        ranks = [
            MicroBatches(Points(), 7, 1, batch_size, accumulate, rank, world_size, begun=begun)
            for rank in range(world_size)
        ]
        for index in range(begun.step * accumulate, (begun.step + steps) * accumulate):
            seen += [name for process in ranks for name in process[index].names]
        begun = ranks[0].progress(begun.step + steps)
    assert begun == Progress(3 + 4 + 2, 12 + 12 + 10, 5)
    assert seen == [f"scene-{index}" for index in one_by_one[:34]]
    seeds = [sample_seeds(1, step, 0, 4) for step in range(1, 10)]
    assert len(torch.cat(seeds).unique()) == 36  # steps of whatever size share no random numbers


def test_prefetching_changes_neither_order_nor_content():
    batches = MicroBatches(Points(), 7, seed=1, batch_size=2)
    for workers in (0, 1):
        for k, batch in zip(range(2, 6), prefetch(batches, range(2, 6), workers), strict=True):
            assert batch.names == batches[k].names
            assert torch.equal(batch.points.columns(), batches[k].points.columns())


class Stubborn(Exception):
    """Its constructor takes what its message does not say, so that it cannot be sent as it is."""

    def __init__(self, frame, field):
        super().__init__(f"frame {frame}: {field}\nis missing")


class Broken(Points):
    """Every scene raises."""

    def __init__(self, kind, *arguments):
        super().__init__()
        self.kind, self.arguments = kind, arguments

    def __getitem__(self, index):
        raise self.kind(*self.arguments)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_scene_is_raised_in_the_loop(workers):
    scenes = Broken(FileNotFoundError, "frame 3: lidar.bin is missing")
    stream = prefetch(MicroBatches(scenes, 7, seed=1, batch_size=2), range(3), workers)
    with pytest.raises(FileNotFoundError, match=r"^frame 3: lidar\.bin is missing$") as raised:
        next(stream)
    if workers:  # where it was raised is kept for --debug
        assert "in __getitem__" in str(raised.value.__cause__)


def test_an_error_that_cannot_be_sent_says_the_same():
    stream = prefetch(MicroBatches(Broken(Stubborn, 3, "lidar"), 7, seed=1, batch_size=2), range(3), 1)
    with pytest.raises(RuntimeError, match=r"^Stubborn: frame 3: lidar\nis missing$"):
        next(stream)


def test_scenes_change_by_their_sample_whoever_prepares_them():
    augment = Augmentation(WorldChange(turn=90, scale=(0.9, 1.1)))
    whole = MicroBatches(Points(), 7, seed=1, batch_size=4, augment=augment)
    halves = [
        MicroBatches(Points(), 7, seed=1, batch_size=2, rank=r, world_size=2, augment=augment) for r in (0, 1)
    ]
    plain = MicroBatches(Points(), 7, seed=1, batch_size=4)
    found = [batches[2].points.xyz for batches in (whole, *halves, plain)]
    assert torch.equal(found[0], torch.cat(found[1:3])) and not torch.equal(found[0], found[3])
    assert torch.equal(whole[2].seeds, plain[2].seeds)
    # Every sample of every step has a world of its own: the first scene of an epoch comes back changed.
    places = [next(k for k in range(e * 7, e * 7 + 7) if scene_index(k, 7, 1) == 0) for e in (0, 1)]
    one_by_one = MicroBatches(Points(), 7, seed=1, batch_size=1, augment=augment)
    first, again = (one_by_one[k].points.xyz for k in places)
    assert first.shape == again.shape and not torch.equal(first, again)


@pytest.mark.parametrize(
    ("device", "cores", "processes", "pictures", "expected"),
    [
        ("cpu", 2, 1, True, 1),
        ("cpu", 2, 2, True, 0),  # no core is left
        ("cpu", 64, 1, False, 0),
        ("cuda", 2, 1, True, 1),
        ("cuda", 64, 8, False, 4),
        ("cuda", 8, 8, True, 0),
    ],
)
def test_workers_by_default(monkeypatch, device, cores, processes, pictures, expected):
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    monkeypatch.setattr(sys.modules[default_workers.__module__], "get_start_method", lambda: "fork")
    assert default_workers(torch.device(device), processes, pictures) == expected
    monkeypatch.setattr(sys.modules[default_workers.__module__], "get_start_method", lambda: "spawn")
    assert default_workers(torch.device(device), processes, pictures) == (device == "cuda") * expected


def test_recordings_with_pictures_are_decoded_wherever_they_stand(tmp_path):
    for name, room in (("street", SyntheticStreet(2, image_size=(32, 48))), ("sweeps", Points(2))):
        write_scene_folder(tmp_path / name, [room[0], room[1]])
    street, sweeps = (open_data(f"folder:{tmp_path / name}") for name in ("street", "sweeps"))
    mixed = open_data(f"folder:{tmp_path / 'sweeps'}+folder:{tmp_path / 'street'}")
    found = [decodes_pictures(data) for data in (street, sweeps, mixed, SyntheticStreet(2), Points())]
    assert found == [True, False, True, False, False]
