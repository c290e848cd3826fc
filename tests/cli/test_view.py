"""``renderpretrain view``: a client of viser's own protocol connects and finds what is shown."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("viser", reason="viser is not installed", exc_type=Exception)

import msgspec
import viser
import zstandard
from websockets.sync.client import connect

from renderpretrain.data import SyntheticStreet, write_scene_folder
from renderpretrain.verbs.viewing import RecordingSource, open_viewer

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
FROM_RUN = {
    *("points", "cameras", "boxes", "rendered depth", "visible voxels", "hidden voxels"),
    *("occupancy, measured", "occupancy, from the field", "surface"),
}


def opened(target, **options):
    given = {"scene": None, "split": None, "host": "127.0.0.1", "port": 0, "device": "cpu", "say": print}
    return open_viewer(str(target), **{**given, **options})


def messages(client):
    """What the server sends next: behind two lengths a compressed list of messages, then arrays."""
    data = client.recv(timeout=30)
    length = int.from_bytes(data[8:16], "little")
    return msgspec.msgpack.decode(zstandard.decompress(data[16 : 16 + length]))["messages"]


def listen(client, until):
    """Messages up to one that is waited for."""
    heard = []
    while not any(until(message) for message in heard):
        heard += messages(client)
    return heard


@contextmanager
def client_of(viewer):
    """A client that says where it looks from, as a browser does first, and what it has heard by then."""
    address = viewer.address.replace("http", "ws")
    with connect(address, subprotocols=[f"viser-v{viser.__version__}"], max_size=None) as client:
        looks = {
            "wxyz": [1.0, 0, 0, 0],
            "position": [0.0, 0, 9],
            "look_at": [0.0] * 3,
            "up_direction": [0.0, 0, 1],
        }
        looks |= {"fov": 1.0, "near": 0.1, "far": 100.0, "image_height": 100, "image_width": 100}
        client.send(msgspec.msgpack.encode({"type": "ViewerCameraMessage", **looks}))
        yield client, listen(client, lambda message: message["type"] == "ReplayDoneMessage")


def choose(client, heard, kind, label, value):
    """What a browser sends when somebody uses the panel."""
    used = next(m for m in heard if m["type"] == f"Gui{kind}Message" and m["props"]["label"] == label)
    told = {"type": "GuiUpdateMessage", "uuid": used["uuid"], "updates": {"value": value}}
    client.send(msgspec.msgpack.encode(told))


def test_a_client_finds_the_nodes_of_a_run_and_turns_back_to_fresh_weights(trained):
    pytest.importorskip("skimage", reason="scikit-image is not installed", exc_type=Exception)
    viewer = opened(trained, split="held-out")
    try:
        assert viewer.source.states == ("fresh", "step 3") and viewer.source.scenes == range(1, 2)
        assert viewer.draw() and not viewer.draw()  # once drawn, nothing is done
        with client_of(viewer) as (client, heard):
            nodes = {m["name"]: m["type"] for m in heard if "props" in m and "name" in m}
            assert {name.split("/")[1] for name in nodes} >= FROM_RUN
            assert nodes["/points/0"] == "PointCloudMessage"
            assert nodes["/cameras/front"] == "CameraFrustumMessage"
            assert nodes["/hidden voxels/0"] == "BatchedMeshesMessage"
            choose(client, heard, "Slider", "weights", 0)
            assert viewer.changed.wait(10)
            assert viewer.draw() and viewer.shown == [1, 0]
            listen(client, lambda message: "fresh" in str(message.get("updates")))
    finally:
        viewer.close()


def test_the_recording_of_a_run_is_there_before_the_rest_is_computed(trained, monkeypatch):
    viewer = opened(trained)
    shown = []

    def slow(scene, state):
        shown.append((set(viewer.nodes), viewer.status.content))
        raise ValueError("no time")

    monkeypatch.setattr(viewer.source, "contents", slow)
    try:
        assert not viewer.draw()
    finally:
        viewer.close()
    ((nodes, said),) = shown
    assert {"points", "cameras"} <= nodes and "rendered depth" not in nodes
    assert "computing what the run makes of it" in said and viewer.status.content.endswith("no time")


def test_a_client_finds_the_nodes_of_a_recording_and_switches_one_off():
    viewer = opened("synthetic-room", scene=2)
    try:
        assert viewer.draw()
        with client_of(viewer) as (client, heard):
            assert {"/points/0", "/cameras/view_0", "/true occupancy/0"} <= {m.get("name") for m in heard}
            choose(client, heard, "Checkbox", "points", False)
            gone = {"type": "SetSceneNodeVisibilityMessage", "name": "/points/0", "visible": False}
            listen(client, lambda message: gone.items() <= message.items())
    finally:
        viewer.close()


def test_a_folder_that_is_called_like_a_data_set_does_not_hide_it(tmp_path, monkeypatch):
    (tmp_path / "synthetic-room").mkdir()
    monkeypatch.chdir(tmp_path)
    assert RecordingSource("synthetic-room").title == "synthetic-room"


def test_what_is_drawn_keeps_its_status_when_another_scene_cannot_be_shown(monkeypatch):
    heard = []
    viewer = opened("synthetic-room", say=heard.append)
    contents = viewer.source.contents

    def failing(scene, state):
        if scene == 1:
            raise RuntimeError("CUDA out of memory")
        return contents(scene, state)

    monkeypatch.setattr(viewer.source, "contents", failing)
    try:
        assert viewer.draw()
        drawn = viewer.status.content
        viewer._want(0, 1)
        assert not viewer.draw() and heard == ["scene 1: CUDA out of memory"]
        assert viewer.status.content == "**cannot be shown**: CUDA out of memory"
        viewer._want(0, 0)
        assert not viewer.draw() and viewer.status.content == drawn
    finally:
        viewer.close()


def test_without_a_picture_the_points_are_shown_and_the_file_is_named(tmp_path):
    street = SyntheticStreet(1, image_size=(16, 24), num_beams=4)
    write_scene_folder(tmp_path, street, one_recording=True)
    whole = RecordingSource(f"folder:{tmp_path}").contents(0, 0)
    lost = sorted(path for path in tmp_path.rglob("*") if path.suffix in (".png", ".jpg"))[0]
    lost.unlink()
    contents = RecordingSource(f"folder:{tmp_path}").contents(0, 0)
    assert {layer.name for layer in whole.layers} - {layer.name for layer in contents.layers} == {"cameras"}
    (remark,) = contents.remarks
    assert remark.startswith("pictures of the scene: ") and lost.name in remark
    for sweep in tmp_path.glob("*.bin"):
        sweep.write_bytes(b"?")
    with pytest.raises(ValueError, match="multiple of"):
        RecordingSource(f"folder:{tmp_path}").contents(0, 0)


def test_ctrl_c_ends_it_without_a_traceback(tmp_path):
    command = [sys.executable, "-m", "renderpretrain", "view", "synthetic-room", "--port", "0"]
    with subprocess.Popen(command, env=ENVIRONMENT, text=True, stdout=-1, stderr=-1) as process:
        said = process.stdout.readline()
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=60)
    assert said.startswith("http://127.0.0.1:") and said.endswith("shows synthetic-room; Ctrl-C ends it\n")
    assert process.returncode == 130 and rest == ("", "")


def test_what_cannot_be_shown_is_one_line(trained, end, tmp_path, capsys):
    for arguments, error in (
        (
            (tmp_path,),
            "expected a run folder with config.yaml or a recording with frames.json, found neither",
        ),
        (
            ("synthetic", "--split", "training"),
            "split: expected a run folder, whose scenes are split, got synthetic",
        ),
        ((trained, "--split", "some"), "split: expected one of all, training, held-out, got 'some'"),
        ((trained, "--scene", 2), "scene: expected a number from 0 to 1, got 2"),
        ((trained, "--scene", 0, "--split", "held-out"), "scene: expected a number from 1 to 1, got 0"),
        (("synthetic+synthetic-room",), "data: expected one data set to look at, got 2"),
        (("nothing",), "nothing: expected a run folder or a data set, found no folder of that name; data "),
        (("synthetic-rom",), "data: expected one of synthetic, "),
        (("nuscense:x",), "did you mean nuscenes:PATH?"),
    ):
        capsys.readouterr()
        assert end("view", *arguments) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: ") and error in said and said.count("\n") == 1


def test_an_address_in_use_is_refused_before_anything_is_read(end, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert end("view", "synthetic-room", "--port", port) == 1
    assert capsys.readouterr().err == (
        f"error: port: expected a free one on 127.0.0.1, got {port} (address already in use); "
        "--port 0 chooses one\n"
    )


def test_without_viser_one_line_names_the_extra(end, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    assert end("view", "synthetic") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: view: needs viser (") and "pip install 'renderpretrain[viewer]'" in said
