"""Weights that somebody damaged or made up: the right numbers come in, or one line says why not."""

import io
import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from renderpretrain.encoders import ResNet
from renderpretrain.runs import load_checkpoint, save_checkpoint
from renderpretrain.storage.weights import read_weights
from renderpretrain.transfer import (
    ExportOptions,
    export_encoders,
    from_modules,
    import_encoders,
    read_pretrained,
)

FEW = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
MANY = settings(FEW, max_examples=3000, derandomize=False)


def network():
    torch.manual_seed(3)
    return ResNet((1, 1, 1, 1), width=4)


def equal(found, state):
    return set(found) == set(state) and all(torch.equal(found[key], state[key]) for key in state)


def written(kind, folder):
    """A file, and a function that reads its weights."""
    pretrained = from_modules({"e": network()})
    if kind == "ours":
        path = folder / "e.safetensors"
        export_encoders(pretrained, "safetensors", path)
        return path, lambda: read_pretrained(path).encoders["e"].tensors
    if kind == "host":
        path = folder / "e.pth"
        export_encoders(pretrained, "mmdet3d", path, ExportOptions())
        return path, lambda: import_encoders(path, "mmdet3d").pretrained.encoders["image_backbone"].tensors
    path = save_checkpoint(folder, 3, {"step": 3, "model": network().state_dict()})
    return path, lambda: load_checkpoint(path)["model"]


DAMAGE = st.one_of(
    st.tuples(st.just("flip"), st.floats(0, 1), st.integers(0, 7)),
    st.tuples(st.just("cut"), st.floats(0, 1), st.just(0)),
    st.tuples(st.just("zeros"), st.floats(0, 1), st.integers(1, 200)),
    st.tuples(st.just("insert"), st.floats(0, 1), st.integers(0, 255)),
)


def damaged(content, damage):
    kind, share, amount = damage
    place = int(share * (len(content) - 1))
    if kind == "flip":
        return content[:place] + bytes([content[place] ^ 1 << amount]) + content[place + 1 :]
    if kind == "cut":
        return content[:place]
    if kind == "zeros":
        return content[:place] + bytes(len(content[place : place + amount])) + content[place + amount :]
    return content[:place] + bytes([amount]) + content[place:]


def check_damage(kind, folder, budget):
    """A file damaged in many ways, each as it was before."""
    path, read = written(kind, folder)
    whole, state = path.read_bytes(), network().state_dict()

    def check(damage):
        path.write_bytes(damaged(whole, damage))
        try:
            found = read()
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)
        else:
            assert equal(found, state)

    budget(given(DAMAGE)(check))()


@pytest.mark.parametrize("kind", ["ours", "host", "run"])
def test_damaged_files_are_refused_or_right(kind, tmp_path):
    check_damage(kind, tmp_path, FEW)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["ours", "host", "run"])
def test_many_damaged_files_are_refused_or_right(kind, tmp_path):
    check_damage(kind, tmp_path, MANY)


SHAPES = st.lists(st.integers(0, 4), max_size=5)
TYPES = st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.bool, torch.float64])


@st.composite
def tensors(draw):
    """A tensor as people save them, and as they should not."""
    made = torch.ones(draw(SHAPES), dtype=draw(TYPES))
    change = draw(st.sampled_from(["", "expand", "nan", "sparse", "strided", "complex", "text"]))
    if change == "expand":
        return torch.ones(1).expand(draw(st.integers(2, 2**40)))
    if change == "nan" and made.is_floating_point():
        return torch.full_like(made, torch.nan)
    if change == "sparse":
        return torch.eye(3).to_sparse()
    if change == "strided" and made.ndim > 1:
        return made.transpose(0, 1)
    return {"complex": torch.ones(2, dtype=torch.complex64), "text": "no tensor"}.get(change, made)


KEYS = sorted(network().state_dict())
NAMES = st.sampled_from(
    [*KEYS, *(f"layer1.0.{w}" for w in ("conv3.weight", "x")), "layer9.0.conv1.weight", "\x1b]0;x"]
)
PREFIXES = st.sampled_from(
    ["", "img_backbone.", "module.img_backbone.", "backbone.", "img_backbone.img_backbone."]
)
CHANGES = st.dictionaries(NAMES, st.one_of(st.none(), tensors()), max_size=4)
WRAPPERS = st.sampled_from(
    [(), ("state_dict",), ("model",), ("state_dict", "model"), ("x", "y"), ("optimizer",)]
)


def check_structure(changes, prefix, wrappers, folder):
    """What comes in is what was in the file, cast to no other numbers."""
    state = {k: v for k, v in network().state_dict().items() if changes.get(k, k) is not None}
    state |= {k: v for k, v in changes.items() if v is not None}
    tree = {prefix + key: value for key, value in state.items()}
    for wrapper in wrappers:
        tree = {wrapper: tree, "epoch": 3}
    torch.save(tree, folder / "w.pth")
    for host in ("mmdet3d", "torchvision"):
        try:
            done = import_encoders(folder / "w.pth", host, folder / "o.safetensors", None)
        except ValueError as error:
            said = str(error)
            assert said.isprintable() and len(said) < 1000
        else:
            found = done.pretrained.encoders["image_backbone"].tensors
            assert all(
                torch.equal(value, state[key]) and value.isfinite().all() for key, value in found.items()
            )
            json.dumps(done.report.as_tree())
            read_pretrained(folder / "o.safetensors")


def test_made_up_checkpoints_are_refused_or_right(tmp_path):
    run = given(CHANGES, PREFIXES, WRAPPERS)(lambda c, p, w: check_structure(c, p, w, tmp_path))
    FEW(run)()


def test_a_tensor_without_numbers_is_one_line(tmp_path):
    """A network of no width can be built, with a warning of torch's for each of its layers."""
    torch.save({**network().state_dict(), "conv1.weight": torch.ones(0)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w.pth: conv1.weight: expected numbers, got a tensor without any"):
        import_encoders(tmp_path / "w.pth", "torchvision", tmp_path / "o.safetensors", None)


@pytest.mark.long
def test_many_made_up_checkpoints_are_refused_or_right(tmp_path):
    run = given(CHANGES, PREFIXES, WRAPPERS)(lambda c, p, w: check_structure(c, p, w, tmp_path))
    MANY(run)()


@pytest.mark.parametrize("budget", [FEW, pytest.param(MANY, marks=pytest.mark.long)], ids=["few", "many"])
def test_random_bytes_for_a_pickle_are_refused_or_harmless(budget, tmp_path):
    content = io.BytesIO()
    torch.save(nn.Linear(2, 2).state_dict(), content, _use_new_zipfile_serialization=False)
    start = content.getvalue()

    def check(place, bytes_):
        path = tmp_path / "w.pth"
        path.write_bytes(start[: place % len(start)] + bytes_ + start[place % len(start) :])
        try:
            read_weights(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)

    budget(given(st.integers(0, 10**6), st.binary(max_size=40))(check))()


def test_a_strange_escape_in_a_pickle_is_no_warning(tmp_path):
    content = io.BytesIO()
    torch.save(nn.Linear(2, 2).state_dict(), content, _use_new_zipfile_serialization=False)
    start = content.getvalue()
    (tmp_path / "w.pth").write_bytes(start[:186] + b"\\" + start[186:])
    with pytest.raises(ValueError, match=r"w\.pth: "):
        read_weights(tmp_path / "w.pth")
