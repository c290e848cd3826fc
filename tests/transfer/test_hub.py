"""Encoders on a model hub: a folder comes back as it went, its card is read, and no path travels."""

import json
import re
import sys
from types import SimpleNamespace

import pytest
import torch
import yaml
from networks import second_encoder, shaken, unet
from torch import nn

import renderpretrain as rp
from renderpretrain.encoders import ResNet
from renderpretrain.recipes import RECIPES
from renderpretrain.runs import save_checkpoint
from renderpretrain.transfer import from_modules, from_pretrained, push_to_hub, read_pretrained


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder on a recording, as training leaves it, with scores of held-out scenes."""
    folder = tmp_path_factory.mktemp("hub") / "run"
    entry = RECIPES["unipad-lidar"]
    model = shaken(entry.build(entry.presets["tiny"]))
    (folder / "checkpoints").mkdir(parents=True)
    config = entry.presets["tiny"].model_dump(mode="json")
    job = {"recipe": "unipad-lidar", "preset": "tiny", "data": "kitti:/home/me/kitti@2+synthetic"}
    (folder / "config.yaml").write_text(yaml.safe_dump({**job, "config": config}))
    save_checkpoint(folder / "checkpoints", 3, {"step": 3, "model": model.state_dict()})
    rows = [
        {"step": 0, "eval/depth_abs_rel": 0.5, "eval/best_row_depth_abs_rel": 0.25},
        {"step": 3, "eval/depth_abs_rel": 0.125},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def same(a, b):
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def test_a_run_comes_back_from_the_folder_it_was_pushed_to(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the card's lines find the folder
    folder = tmp_path / "hub"
    assert rp.push_to_hub(run, folder=folder, license="cc-by-nc-4.0") == str(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    for part in ("point_encoder", "point_neck"):
        back = rp.from_pretrained(folder, part)
        assert same(back, rp.load_encoder(run, part)) and not back.training
    assert same(rp.load_encoder(folder), back_of(folder))
    push_to_hub(run, folder=folder)  # again, over what it wrote itself
    assert "license: unknown" in (folder / "README.md").read_text()


def back_of(folder):
    """What the card's own lines load."""
    lines = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)[1]
    loaded = {}
    exec(lines, loaded)
    return loaded["point_encoder"]


def test_the_card_says_what_was_trained_how_well_and_under_which_licence(run, tmp_path):
    push_to_hub(run, folder=tmp_path / "hub", license="cc-by-nc-4.0", remarks="Trained **at home**.")
    _, front, text = (tmp_path / "hub" / "README.md").read_text().split("---\n", 2)
    told = yaml.safe_load(front)
    assert told["license"] == "cc-by-nc-4.0" and "lidar" in told["tags"] and "camera" not in told["tags"]
    assert text.startswith("\n# unipad-lidar tiny\n") and "Trained **at home**." in text
    assert " %" not in text  # a preset hides other shares than the paper: config.json says which
    assert (
        "| depth_abs_rel | 0.500 | 0.125 | 0.250 |" in text
        and "| score | before | after | best row |" in text
    )
    encoder = rp.load_encoder(run)
    count = sum(p.numel() for p in encoder.parameters())
    assert f"| `point_encoder` | SparseEncoder | x, y, z, intensity, lag | {count:,} |" in text
    assert "- data: kitti+synthetic\n" in text and "- steps: 3\n" in text
    assert "- a voxel is the mean of its points' x, y, z, intensity in 0 to 1" in text


def test_no_path_of_this_machine_travels(run, tmp_path):
    about = read_pretrained(run).about
    secret = {**about, "config": {**about["config"], "image": {"weights": "/home/me/secret/w.pth"}}}
    modules = {"point_encoder": rp.load_encoder(run)}
    push_to_hub(from_modules(modules, secret), folder=tmp_path / "hub")
    for file in (tmp_path / "hub").iterdir():
        content = file.read_bytes()
        assert b"home/me" not in content and str(tmp_path).encode() not in content, file.name
    assert json.loads((tmp_path / "hub" / "config.json").read_text())["config"]["image"] == {
        "weights": "w.pth"
    }


PATHS = {
    "../secret/w.pth": "w.pth",
    "runs/secret/enc.safetensors": "enc.safetensors",
    "secret/rec/": "rec",
    "~/w.pth": "w.pth",
    "~me": "~",
    "C:\\secret\\w.pth": "w.pth",
    "folder:/home/me/rec": "folder:rec",
    "timm:local-dir:secret/net": "timm:local-dir:net",
    "file:///home/me/w.pth": "file:w.pth",
}
STAYS = ("https://a.b/c", "timm:hf-hub:timm/resnet18", "arXiv:2310.08370", "cs/0703041", "relu", "a~b")


def test_paths_of_any_form_become_names_also_in_keys(tmp_path):
    secret = {
        "config": {
            "paths": [*PATHS],
            "stays": [*STAYS],
            "shares": {"folder:/home/me/rec": 2, "folder:b/rec": 1, 3: 4},
        }
    }
    push_to_hub(from_modules({"u": unet()}, secret), folder=tmp_path / "hub")
    told = json.loads((tmp_path / "hub" / "config.json").read_text())["config"]
    shares = {"folder:rec": 2, "folder:rec (2)": 1, "3": 4}
    assert told == {"paths": [*PATHS.values()], "stays": [*STAYS], "shares": shares}
    weights = (tmp_path / "hub" / "model.safetensors").read_bytes()
    assert b"enc.safetensors" in weights and b"secret" not in weights and b"home" not in weights


@pytest.mark.parametrize("config", ['{"library_name": "transformers"}', "[]", "{", None])
def test_the_model_of_somebody_else_is_not_overwritten(config, tmp_path):
    theirs = {"model.safetensors": "theirs", "README.md": "card"} | (
        {"config.json": config} if config else {}
    )
    for name, text in theirs.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=r"^folder: expected a new one, or one of push_to_hub, got [^\n]*$"):
        push_to_hub(from_modules({"u": unet()}), folder=tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == theirs


def test_encoders_of_several_kinds_and_of_ones_own_are_published(tmp_path):
    network = nn.Sequential(nn.Linear(3, 4))
    modules = {"u": unet(), "image": ResNet((1, 1, 1, 1), width=8), "mine": network}
    push_to_hub(from_modules(modules), folder=tmp_path / "hub")
    fresh = nn.Sequential(nn.Linear(3, 4))
    assert from_pretrained(tmp_path / "hub", "mine", into=fresh) is fresh and same(fresh, network)
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "camera" in yaml.safe_load(card.split("---\n")[1])["tags"] and "No licence was stated" in card
    assert "## Scores" not in card
    normalized = "(123.675, 116.28, 103.53), std (58.395, 57.12, 57.375) of values in 0 to 255; divide"
    assert f"- images are RGB, mean {normalized}" in card


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Hugging Face's library on a network of our own: what it was asked, and where its files lie."""
    calls, store = [], tmp_path / "theirs"

    class HfApi:
        def create_repo(self, repo_id, *, private, exist_ok):
            if repo_id == "me/refused":
                raise RuntimeError("401\nUnauthorized")
            calls.append(("create", repo_id, private, exist_ok))
            return f"https://hub/{repo_id}"

        def upload_folder(self, *, repo_id, folder_path, allow_patterns, commit_message):
            store.mkdir()
            for name in allow_patterns:
                (store / name).write_bytes((type(store)(folder_path) / name).read_bytes())
            calls.append(("upload", repo_id))

    def snapshot_download(repo_id, *, revision, allow_patterns):
        calls.append(("fetch", repo_id, revision))
        return str(store)

    fake = SimpleNamespace(HfApi=HfApi, snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    return calls


def test_a_repository_is_filled_and_fetched(hub, tmp_path):
    encoder = second_encoder()
    source = from_modules({"point_encoder": encoder})
    assert push_to_hub(source, "me/second", private=True) == "https://hub/me/second"
    assert same(from_pretrained("me/second", revision="main"), encoder)
    assert hub == [
        ("create", "me/second", True, True),
        ("upload", "me/second"),
        ("fetch", "me/second", "main"),
    ]
    assert "from_pretrained('me/second', 'point_encoder')" in (tmp_path / "theirs" / "README.md").read_text()
    with pytest.raises(ValueError, match=r"^me/refused: the hub could not be used \(401 Unauthorized\)$"):
        push_to_hub(source, "me/refused")


def test_what_is_wrong_is_one_line(tmp_path, monkeypatch):
    source = from_modules({"point_encoder": second_encoder()})
    with pytest.raises(ValueError, match=r"^repo_id, folder: expected one of them, got neither$"):
        push_to_hub(source)
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ValueError, match=r"^folder: expected a new one, .* with a README.md and no config"):
        push_to_hub(source, folder=tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    with pytest.raises(ValueError, match=r"^name: expected a folder, or user/name on"):
        from_pretrained(tmp_path / "nowhere")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: push_to_hub(source, "me/x"), lambda: from_pretrained("me/x")):
        with pytest.raises(ValueError, match=r'^repo_id: the hub needs pip install "renderpretrain\[hub\]"'):
            call()
