"""A new encoder is one class, and one file of each host that has a place for it; no other file knows it."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from networks import shaken
from torch.testing import assert_close

import renderpretrain.transfer as transfer
from renderpretrain.encoders import ENCODERS, Role, RowBatchNorm, SparseTensor, SubMConv3d
from renderpretrain.encoders.described import SWEEP_COLUMNS, side_of
from renderpretrain.transfer import HOSTS, SOURCES, ExportOptions, ImportOptions
from renderpretrain.transfer.part import Part
from renderpretrain.transfer.restating.cells import Network, as_cells, in_axes, random_voxels

ROOT = Path(transfer.__file__).parent
KNOWING = {"hosts", "restating", "image_snippets.py"}
"""Where encoders are told apart by name: the hosts, what their files share, and names of published sizes."""

ALWAYS_SAID = {"snippets.py": {"FPN"}}
"""The note on how images are normalised is given with this pyramid, too, and always was."""


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.py")), ids=lambda path: path.name)
def test_only_the_hosts_know_encoders_by_name(path):
    if path.name not in KNOWING:
        nodes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant | ast.Name)]
        words = {n.id if isinstance(n, ast.Name) else n.value for n in nodes}
        assert words & set(ENCODERS) == ALWAYS_SAID.get(path.name, set())


@pytest.mark.parametrize("kind", ENCODERS)
def test_every_encoder_has_a_name_and_a_host(kind):
    """Whatever can be built from a file can go somewhere, and what reads points says where."""
    role = ENCODERS[kind].role
    assert role.name and role.reads
    assert bool(role.columns) == bool(role.input_kernels) == (role.reads == "points")
    assert any(part.kind == kind for host in HOSTS.values() for part in host.parts)


class Small(torch.nn.Module):
    """One convolution on the voxels."""

    role = Role("point_encoder", "points", SWEEP_COLUMNS, ("stem.weight",), "xyz", 1e-3)

    def __init__(self, in_channels, width):
        super().__init__()
        self.stem = SubMConv3d(in_channels, width, 3, bias=False)
        self.norm = RowBatchNorm(width)

    def forward(self, x):
        x = self.stem(x)
        return x.with_features(self.norm(x.features))

    @classmethod
    def sizes_of(cls, state):
        return {"in_channels": side_of(state, "stem.weight", 4), "width": side_of(state, "stem.weight", 0)}

    @property
    def sizes(self):
        return self.sizes_of(self.state_dict())


def turned(x):
    """The voxels with x first, as the weights are."""
    return SparseTensor(x.features, x.coords[:, [0, 3, 2, 1]], x.spatial_shape[::-1], x.batch_size)


def check(module, state, generator):
    x = random_voxels(module.sizes["in_channels"], (8, 10, 12), generator)
    net = Network(state, "KRSC")
    cells = net.norm(
        net.same_cells(as_cells(x, x.spatial_shape, "xyz"), "embedding.0"), "embedding.1", relu=False
    )
    return [in_axes(module(turned(x)).dense(), "xyz")], [in_axes(cells.values, "xyz")]


PART = Part(
    "Small",
    "backbone.",
    "SmallNet",
    marker="embedding.0.weight",
    table=(("stem.", "embedding.0."), ("norm.", "embedding.1.")),
    axes="xyz",
    norm=(1e-3, 0.01),
    check=check,
)


def lines(pretrained, tensors):
    (encoder,) = pretrained.encoders.values()
    return ["weight = 'FILE'", f"backbone = dict(type='SmallNet', width={encoder.spec['width']})"]


@torch.no_grad()
def test_a_new_encoder_goes_there_and_back(tmp_path, monkeypatch):
    host = replace(HOSTS["pointcept"], parts=(PART,), snippet=lines)
    monkeypatch.setitem(ENCODERS, "Small", Small)
    monkeypatch.setitem(HOSTS, "pointcept", host)
    monkeypatch.setitem(SOURCES, "pointcept", host)
    ours = shaken(Small(4, 8)).eval()
    pretrained = transfer.from_modules({"point_encoder": ours})
    path, back = tmp_path / "small.pth", tmp_path / "back.safetensors"
    done = transfer.export_encoders(pretrained, "pointcept", path, ExportOptions(verify=True))
    assert done.report.share == 1.0 and done.report.parts[0].verified <= 1e-6
    assert done.snippet == f"weight = '{path}'\nbackbone = dict(type='SmallNet', width=8)\n"
    assert "a voxel is the mean of its points' x, y, z, intensity in 0 to 1" in " ".join(done.report.notes)
    found = transfer.import_encoders(path, "pointcept", back, ImportOptions())
    assert list(found.pretrained.encoders) == ["point_encoder"]
    again = transfer.load_encoder(back).eval()
    assert type(again) is Small and again.about["columns"] == ("x", "y", "z", "intensity")
    x = random_voxels(4, (8, 10, 12), torch.Generator().manual_seed(1))
    assert_close(again(x).features, ours(x).features, rtol=0, atol=0)
    larger = {"point_encoder": Small(5, 8)}
    (said,) = transfer.initialize_encoders(larger, back, columns=("x", "y", "z", "intensity", "lag"))
    assert said.endswith("; its weights for lag are 0")
