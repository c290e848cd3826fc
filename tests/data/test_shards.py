"""Prepared recordings: the same scenes to the bit, whole shards or none, damage that is named."""

import gc
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from renderpretrain.data import (
    SceneFolder,
    SceneFolderError,
    ShardScenes,
    SyntheticRoom,
    SyntheticStreet,
    open_data,
    write_scene_folder,
)
from renderpretrain.data.folder import remote
from renderpretrain.data.folder.schema import OutdoorFrame
from renderpretrain.data.opened import word_of
from renderpretrain.data.shards import reading
from renderpretrain.data.shards.reading import needed_spans, shard_problems, stretch_of
from renderpretrain.data.shards.writing import Preparation, prepare_recording
from renderpretrain.geometry import Cameras
from renderpretrain.verbs import prepare
from tests.data.readers.nuscenes_files import Writer

LITTLE = 1_200_000
"""Bytes of a shard: a street of five frames fits, two do not."""


def write(recording, out, **how):
    """Prepare a folder's recording as little shards, or as told."""
    source = f"folder:{recording}"
    told = []
    how = {"packed": True, "size": LITTLE, **how}
    prepare_recording(open_data(source), Preparation(out, source, **how), lambda *done: told.append(done))
    return told


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """Two streets of five frames each, whose sweeps may be merged."""
    path = tmp_path_factory.mktemp("street")
    scenes = SyntheticStreet(10, image_size=(64, 96), frames_per_street=5, points_per_beam=400)
    names = scenes[0].truth.class_names
    write_scene_folder(path / "rec", [scenes[i] for i in range(10)], class_names=names, one_recording=True)
    content = json.loads((path / "rec" / "frames.json").read_text())
    for number, frame in enumerate(content["frames"]):
        frame["scene"] = f"street {number // 5}"
    (path / "rec" / "frames.json").write_text(json.dumps(content))
    return path / "rec"


@pytest.fixture(scope="module")
def shards(street, tmp_path_factory):
    out = tmp_path_factory.mktemp("shards") / "out"
    assert write(street, out) == [(0, 10), (5, 10), (10, 10)]
    return out


def assert_same(one, other):
    """Two scenes are the same to the bit, but for their names."""
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, torch.Tensor):
            assert torch.equal(a, b), field.name
        elif isinstance(a, Cameras):
            assert torch.equal(a.intrinsics, b.intrinsics) and torch.equal(
                a.camera_to_world, b.camera_to_world
            )
        elif field.name not in ("name", "boxes"):
            assert a == b, field.name
    if one.boxes is not None:
        assert torch.equal(one.boxes.centers, other.boxes.centers)
        assert torch.equal(one.boxes.labels, other.boxes.labels)


@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_a_prepared_street_has_the_same_scenes(street, shards, tmp_path, kind):
    if kind == "folder":
        write(street, tmp_path / "out", packed=False)
    place = shards if kind == "shards" else tmp_path / "out"
    native, prepared = (open_data(f"{w}:{p}", sweeps=3) for w, p in (("folder", street), (kind, place)))
    assert len(prepared) == len(native) and prepared.camera_names == native.camera_names
    assert prepared.class_names == native.class_names and prepared.image_size == native.image_size
    for index in (7, 0, 4, 9):
        assert_same(native[index], prepared[index])
        assert list(native.sequence(index)) == list(prepared.sequence(index))
    assert_same(native.without_images(6), prepared.without_images(6))


@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_sweeps_between_frames_are_prepared_with_them(tmp_path, kind):
    """Those of nuScenes lie in a folder of their own, which a prepared recording does not have."""
    source = tmp_path / "nuscenes"
    source.mkdir()
    Writer(source, scenes=("scene-0061",))
    word = f"nuscenes:{source}"
    prepare_recording(open_data(word), Preparation(tmp_path / "out", word, packed=kind == "shards"))
    shutil.move(source, tmp_path / "elsewhere")
    prepared = open_data(f"{kind}:{tmp_path / 'out'}", sweeps=10)
    native = open_data(f"nuscenes:{tmp_path / 'elsewhere'}", sweeps=10)
    assert len(native) == len(prepared) == 3 and len(native[2].points[:, 4].unique()) > 5
    for index in range(3):
        assert_same(native[index], prepared[index])


def test_a_street_stays_whole_in_its_shard(shards):
    index = ShardScenes(shards).index
    assert [shard.frames for shard in index.shards] == [5, 5]


def test_a_prepared_room_has_the_same_scenes(tmp_path):
    room = SyntheticRoom(3, image_size=(48, 64))
    write_scene_folder(tmp_path / "rec", [room[i] for i in range(3)], class_names=room[0].truth.class_names)
    write(tmp_path / "rec", tmp_path / "out", size=1)
    native, prepared = SceneFolder(tmp_path / "rec"), ShardScenes(tmp_path / "out")
    assert len(native) == len(prepared) == 3
    for index in range(3):
        assert_same(native[index], prepared[index])


def test_cameras_and_places_are_those_asked_for(street, shards):
    names = SceneFolder(street).camera_names
    chosen = open_data(f"shards:{shards}?cameras={names[1]}", places={names[1]: 2})
    native = open_data(f"folder:{street}?cameras={names[1]}", places={names[1]: 2})
    assert chosen.camera_names == native.camera_names == ("", "", names[1])
    assert torch.equal(chosen[3].images, native[3].images)
    assert word_of(chosen) == f"shards:{shards}?cameras={names[1]}"
    with pytest.raises(ValueError, match=r"cameras: expected some of .*, got nobody"):
        open_data(f"shards:{shards}?cameras=nobody")


def test_webdataset_reads_the_shards(shards):
    reading = pytest.importorskip("webdataset.tariterators")
    samples = []
    for path in sorted(shards.glob("*.tar")):
        with path.open("rb") as stream:
            members = ({**each, "__url__": path.name} for each in reading.tar_file_iterator(stream))
            samples += reading.group_by_keys(members)
    assert len(samples) == 10
    entry = json.loads(samples[3]["json"])
    assert entry["lidar"]["file"] == "lidar.bin" and len(samples[3]["lidar.bin"]) > 0
    first = next(iter(entry["cameras"].values()))["file"]
    assert samples[3][first].startswith(b"\x89PNG")


def test_shards_are_the_same_whoever_writes_them(street, shards, tmp_path):
    write(street, tmp_path / "out", workers=2)
    for path in shards.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_resumed_preparation_writes_what_is_missing_only(street, shards, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(shards, out)
    kept = out / "000000.tar"
    before = kept.stat().st_mtime_ns
    for name in ("shards.json", "000001.json"):
        (out / name).unlink()
    (out / "000001.tar").write_bytes(b"half")
    told = write(street, out, resume=True)
    assert told == [(5, 10), (10, 10)] and kept.stat().st_mtime_ns == before
    assert (out / "000001.tar").read_bytes() == (shards / "000001.tar").read_bytes()


def test_a_killed_preparation_goes_on(street, tmp_path, shards):
    out = tmp_path / "out"
    begin = "import sys, test_shards; test_shards.write(sys.argv[1], __import__('pathlib').Path(sys.argv[2]))"
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    process = subprocess.Popen([sys.executable, "-c", begin, str(street), str(out)], env=here)
    while not (out / "000000.json").exists() and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert (out / "000000.json").exists() and not (out / "shards.json").exists()
    write(street, out, resume=True)
    assert sorted(os.listdir(out)) == sorted(os.listdir(shards))
    assert list(shard_problems(out)) == []


def test_what_is_there_is_not_written_over(street, shards, tmp_path):
    with pytest.raises(ValueError, match="out: expected a new or empty folder, or --resume, got"):
        prepare(f"folder:{street}", shards, shards=True)
    with pytest.raises(ValueError, match=r"out: expected the preparation of folder:.*, got another packed"):
        prepare(f"folder:{street}", shards, resume=True)
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(ValueError, match=r"out: expected the preparation of .*, got no preparation"):
        prepare(f"folder:{street}", tmp_path, shards=True, resume=True)
    with pytest.raises(ValueError, match="data: expected one recording NAME:PATH, got 'synthetic'"):
        prepare("synthetic", tmp_path / "out")


def test_damage_names_the_shard(shards, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(shards, out)
    raw = bytearray((out / "000001.tar").read_bytes())
    raw[len(raw) // 2] ^= 1
    (out / "000001.tar").write_bytes(raw)
    (line,) = shard_problems(out)
    assert "000001.tar: shard: expected the digest" in line and line.endswith("it is damaged")
    (out / "000001.tar").write_bytes(raw[:-1024])
    with pytest.raises(SceneFolderError, match=r"000001.tar: shard: expected \d+ bytes, got \d+$"):
        ShardScenes(out)
    (out / "000001.tar").unlink()
    with pytest.raises(SceneFolderError, match=r"000001.tar: shard: expected a readable file, got: nothing"):
        ShardScenes(out)
    shutil.copy(shards / "000001.tar", out)
    shutil.copy(shards / "000000.json", out / "000001.json")
    with pytest.raises(SceneFolderError, match=r"000001.json: expected the 5 frames of 000001.tar, got"):
        ShardScenes(out)[7]


@pytest.mark.parametrize(
    "content", ["", "[]", '{"version": 2}', '{"version": 1, "shards": [{"file": "../x"}]}']
)
def test_a_broken_index_is_one_line(tmp_path, content):
    (tmp_path / "shards.json").write_text(content)
    with pytest.raises(SceneFolderError) as caught:
        ShardScenes(tmp_path)
    assert "shards.json: " in str(caught.value) and "\n" not in str(caught.value)


def test_shards_elsewhere_are_fetched_in_parts(street, shards):
    import fsspec

    system = fsspec.filesystem("memory")
    for path in shards.iterdir():
        system.pipe(f"/bucket/{path.name}", path.read_bytes())
    asked = []
    whole = system.cat_file
    try:
        type(system).cat_file = lambda self, path, start=None, end=None, **_: (
            asked.append((path, (end or 0) - (start or 0))),
            whole(path, start=start, end=end),
        )[1]
        scenes = open_data("shards:memory://bucket", sweeps=2)
        assert_same(open_data(f"folder:{street}", sweeps=2)[6], scenes[6])
    finally:
        del type(system).cat_file
    read = sum(length for path, length in asked if path.endswith("000001.tar"))
    # Of five frames two are read, and of one of them the sweep alone.
    assert 0 < read < (shards / "000001.tar").stat().st_size / 2
    assert word_of(scenes) == "shards:memory://bucket"
    system.rm("/bucket/000001.tar")
    with pytest.raises(SceneFolderError, match=r"000001.tar: shard: expected a readable file"):
        open_data("shards:memory://bucket")
    with pytest.raises(ValueError, match="data: expected a URL that fsspec opens, got nothing://bucket"):
        open_data("shards:nothing://bucket")


def test_tar_members_are_what_the_index_says(shards):
    record = json.loads((shards / "000000.json").read_text())
    with tarfile.open(shards / "000000.tar") as tar:
        names = tar.getnames()
        file, _, span = record["frames"][0]["lidar"]["file"].partition("#")
        start = int(span.partition("+")[0])
        member = tar.getmember("00000000.lidar.bin")
        assert file == "000000.tar" and member.offset_data == start
    assert names[-1].endswith(".json") and len(set(names)) == len(names)


@pytest.fixture
def served(shards, monkeypatch):
    """Shards in a store behind a network that pauses little, and the server."""
    pytest.importorskip("aiohttp")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    monkeypatch.setattr(remote.RemoteFiles.__init__, "__defaults__", (0.01, 0.05))
    server = importlib.import_module("range_server").RangeServer(shards)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_shards_behind_a_network_are_the_same(street, served):
    scenes = open_data(f"shards:{served.url}", sweeps=2)
    assert_same(open_data(f"folder:{street}", sweeps=2)[6], scenes[6])
    assert word_of(scenes) == f"shards:{served.url}"
    assert list(shard_problems(served.url)) == []


@pytest.mark.parametrize(("sweeps", "requests"), [(1, 1), (2, 2)])
def test_what_a_scene_needs_of_a_frame_is_one_request(street, served, sweeps, requests):
    """An older sweep is another frame's, and comes without that frame's pictures."""
    scenes = open_data(f"shards:{served.url}", sweeps=sweeps)
    scenes[0]
    served.asked.clear()
    scene = scenes[3]
    assert len(served.asked) == requests
    assert_same(open_data(f"folder:{street}", sweeps=sweeps)[3], scene)
    scenes[3]  # decoded files are kept: nothing is fetched for nothing
    scenes.without_images(3)
    assert len(served.asked) == requests


def test_what_lies_between_needed_files_is_fetched_where_it_is_the_smaller_part():
    entry = {
        "lidar": {"file": "0.tar#512+100", "semseg_file": "0.tar#1024+90"},
        "sweeps": [{"file": "0.tar#1536+50"}],
        "cameras": {"left": {"file": "0.tar#2048+900"}, "right": {"file": "0.tar#9216+900"}},
    }
    assert list(needed_spans(entry, ["right"], older=False)) == [(512, 100), (1024, 90), (9216, 900)]
    assert list(needed_spans(entry, [], older=True)) == [(512, 100), (1024, 90), (1536, 50)]
    assert stretch_of([(512, 900), (2048, 900)]) == (512, 2948)
    assert stretch_of([(512, 100), (1024, 90), (9216, 900)]) == stretch_of([]) == (0, 0)


@pytest.mark.untyped  # where calls are checked, defaults cannot be changed from outside: pauses are long
def test_a_store_that_fails_now_and_then_is_asked_again(street, served):
    served.answers = lambda number, path: 503 if number % 3 else 0
    assert_same(open_data(f"folder:{street}")[6], open_data(f"shards:{served.url}")[6])


@pytest.mark.untyped  # as above
@pytest.mark.parametrize(
    ("how", "said", "times"),
    [
        ("fails", "503, message='Service Unavailable'.*, 4 times", 4),
        ("hangs", "expected a readable file, .*TimeoutError, 4 times", 4),
        ("forbids", "403, message='Forbidden'", 1),
        ("gives all", r"expected (\d{6}) bytes from byte \d+ on, got (?!\1)\d{7}$", 1),
    ],
)
def test_a_store_that_goes_on_failing_is_one_line_with_shard_and_bytes(shards, served, how, said, times):
    scenes = open_data(f"shards:{served.url}")
    scenes[0]  # the shard's frames are known now
    served.asked.clear()
    if how == "hangs":
        served.latency = 0.4
    if how == "gives all":
        served.ranges = False
    served.answers = {"fails": lambda *_: 503, "forbids": lambda *_: 403}.get(how, lambda *_: 0)
    with pytest.raises(SceneFolderError, match=said) as raised:
        scenes[1]
    line = str(raised.value)
    assert f"{served.url}/000000.tar: frame 1 (street-0-1): lidar.file" in line and "\n" not in line
    assert re.search(r"bytes \d+ to \d+|from byte \d+ on", line)
    # Nobody waits long here, so that a question may be given up before the server reads it.
    assert len(served.asked) == times if how != "hangs" else 1 <= len(served.asked) <= times


@pytest.mark.parametrize("frames", [10, 5])
def test_descriptions_of_shards_stay_up_to_a_number_of_frames(shards, monkeypatch, frames):
    monkeypatch.setattr(reading, "OPEN_FRAMES", frames)
    scenes, opened = ShardScenes(shards), []
    describe = reading.shard_content
    monkeypatch.setattr(
        reading, "shard_content", lambda *told: (opened.append(told[2].file), describe(*told))[1]
    )
    for index in (0, 9, 1, 8):
        scenes[index]
    assert opened == ["000000.tar", "000001.tar"] * (1 if frames == 10 else 2)


def test_what_was_read_does_not_stay(shards, monkeypatch):
    monkeypatch.setattr(reading, "CACHE_BYTES", 1)
    scenes = ShardScenes(shards)
    for index in range(10):
        scenes[index]
    gc.collect()
    assert sum(type(each) is OutdoorFrame for each in gc.get_objects()) <= 2


def test_what_was_packed_damaged_is_found(street, shards, tmp_path):
    """Whoever packs a picture copies its bytes; the digest of the shard is right."""
    out = tmp_path / "out"
    shutil.copytree(street, tmp_path / "street")
    (tmp_path / "street" / "000001_0.png").write_bytes(b"\x89PNG but not for long")
    write(tmp_path / "street", out)
    (line,) = shard_problems(out)
    assert "000000.tar#" in line and ": frame 1 " in line and "expected a readable image" in line
