"""Exported files through the hosts' loaders into the hosts' networks, and what those compute then.

Networks are real spconv modules; loaders do what the hosts' do, their silences included.
"""

import copy
import sys
import types

import pytest
import torch
from networks import UNET, second_encoder, unet, unipad_encoder
from torch.testing import assert_close

from renderpretrain.encoders import SparseTensor, spconv_status
from renderpretrain.transfer import ExportOptions, export_encoders, from_modules

if not spconv_status()["ok"]:
    pytest.skip(f"spconv: {spconv_status()['why']}", allow_module_level=True)

from host_loaders import load_from, openpcdet, pointcept, pretrained_prefix
from host_networks import Detector, Mmdet3dSparseEncoder, SpUNet, VoxelResBackBone8x, ready
from spconv import pytorch as spconv

SHAPE = (24, 32, 40)
"""``(Z, Y, X)``."""


def voxels(channels, shape=SHAPE):
    coords = (torch.rand(2, *shape) < 0.02).nonzero()
    return SparseTensor(torch.randn(len(coords), channels), coords, shape, 2)


def theirs(x, axes="zyx", extra=1):
    """The same voxels for a host: its order of coordinates, and its slices."""
    z, y, w = x.spatial_shape
    order, shape = ([0, 1, 2, 3], [z + extra, y, w]) if axes == "zyx" else ([0, 3, 2, 1], [w, y, z + extra])
    return spconv.SparseConvTensor(x.features, x.coords[:, order].int(), shape, x.batch_size)


def file_of(encoder, to, path, **options):
    export_encoders(from_modules({"point_encoder": encoder}), to, path, ExportOptions(**options))
    return path


def near(actual, expected):
    """Through twenty layers in float32."""
    assert_close(actual, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def before_last(encoder, x):
    """What an encoder gives without its last convolution."""
    z, y, w = x.spatial_shape
    larger = SparseTensor(x.features, x.coords, (z + 1, y, w), x.batch_size)
    return encoder.encoder_layers(encoder.conv_input(larger)).dense()


@pytest.fixture(params=[second_encoder, unipad_encoder], ids=["second", "unipad"])
def encoder(request):
    return request.param().eval()


@torch.no_grad()
def test_openpcdet_computes_what_we_compute(encoder, tmp_path):
    whole = encoder.conv_out[0].spec.kernel_size == (3, 1, 1)
    host, x = Detector(backbone_3d=VoxelResBackBone8x(5)), voxels(5)
    loaded = openpcdet(host, file_of(encoder, "openpcdet", tmp_path / "e.pth"))
    asked = {k for k in host.state_dict() if k.startswith("backbone_3d.")}
    assert asked - loaded == (set() if whole else {k for k in asked if ".conv_out." in k})
    out = ready(host.backbone_3d)(theirs(x), last=whole)
    near(out, encoder(x) if whole else before_last(encoder, x))


@torch.no_grad()
def test_mmdet3d_017_computes_what_we_compute(tmp_path):
    """Its layout survives every way of loading in 1.x, too."""
    encoder, x = second_encoder().eval(), voxels(5)
    path = file_of(encoder, "mmdet3d-0.17", tmp_path / "e.pth")
    state = torch.load(path, weights_only=True)["state_dict"]
    assert state["pts_middle_encoder.conv_input.0.weight"].shape == (3, 3, 3, 5, 16)
    host = Detector(pts_middle_encoder=Mmdet3dSparseEncoder(5))
    for loaded, log in (
        load_from(host, path),
        pretrained_prefix(host.pts_middle_encoder, path, "pts_middle_encoder."),
    ):
        assert len(loaded) == len(encoder.state_dict()) and not log
        near(ready(host.pts_middle_encoder)(theirs(x)), encoder(x))


@torch.no_grad()
def test_mmdet3d_computes_what_we_compute(encoder, tmp_path):
    whole = encoder.conv_out[0].spec.kernel_size == (3, 1, 1)
    host, x = Detector(pts_middle_encoder=Mmdet3dSparseEncoder(5)), voxels(5)
    path = file_of(encoder, "mmdet3d", tmp_path / "e.pth")
    loaded, log = load_from(host, path)
    assert len(loaded) == len(host.pts_middle_encoder.state_dict()) - (0 if whole else 6) and not log
    out = ready(host.pts_middle_encoder)(theirs(x), last=whole)
    near(out, encoder(x) if whole else before_last(encoder, x))


@torch.no_grad()
def test_mmdet3ds_other_way_of_loading_loses_the_version_and_with_it_all_kernels(tmp_path):
    """The trap that the report names: every kernel is turned once more, and the mismatch only logged."""
    host = Detector(pts_middle_encoder=Mmdet3dSparseEncoder(5))
    path = file_of(second_encoder(), "mmdet3d", tmp_path / "e.pth")
    loaded, log = pretrained_prefix(host.pts_middle_encoder, path, "pts_middle_encoder.")
    assert not any(key.endswith("0.weight") and "conv" in key for key in loaded)
    assert len(log) == 21  # convolutions
    done = export_encoders(from_modules({"e": second_encoder()}), "mmdet3d", tmp_path / "f.pth")
    assert any("Pretrained" in note and "mmdet3d-0.17" in note for note in done.report.notes)


@torch.no_grad()
def test_unipads_own_encoder_computes_what_ours_computes(tmp_path):
    """With its last convolution of one cell, in spconv 1's layout."""
    encoder, x = unipad_encoder().eval(), voxels(5)
    state = torch.load(file_of(encoder, "mmdet3d-0.17", tmp_path / "e.pth"), weights_only=True)["state_dict"]
    assert state["pts_middle_encoder.conv_out.0.weight"].shape == (1, 1, 1, 128, 256)
    host = Mmdet3dSparseEncoder(5, 256, kernel=(1, 1, 1), stride=(1, 1, 1))
    host.load_state_dict(
        {
            k.removeprefix("pts_middle_encoder."): _as_spconv2(v) if v.ndim == 5 else v
            for k, v in state.items()
        }
    )
    near(ready(host)(theirs(x)), encoder(x))


def _as_spconv2(kernel):
    """A plain ``(k, k, k, in, out)`` for spconv 2, whose single cell lies in the order ``(in, out)``."""
    *cells, inside, outside = kernel.shape
    if cells == [1, 1, 1]:
        return kernel.reshape(inside, outside).flatten().view(outside, 1, 1, 1, inside)
    return kernel.permute(4, 0, 1, 2, 3)


@torch.no_grad()
def test_bevfusion_computes_what_we_compute_with_x_first(tmp_path):
    encoder, x = second_encoder().eval(), voxels(5)
    state = torch.load(file_of(encoder, "bevfusion", tmp_path / "e.pth"), weights_only=True)["state_dict"]
    host = Mmdet3dSparseEncoder(5, axes="xyz")
    prefix = "encoders.lidar.backbone."
    turned = {
        k.removeprefix(prefix): v.permute(4, 0, 1, 2, 3) if v.ndim == 5 else v for k, v in state.items()
    }
    host.load_state_dict(turned)
    out = ready(host)(theirs(x, "xyz"))
    near(out.permute(0, 1, 4, 3, 2), encoder(x))
    # Cubic kernels in the wrong order have the right shape: the host takes them without a word.
    wrong = {k: v.permute(0, 3, 2, 1, 4) if v.ndim == 5 and v.shape[1] == 3 else v for k, v in turned.items()}
    same = {k: v for k, v in wrong.items() if not k.startswith("conv_out.")}
    host.load_state_dict({**turned, **same})
    assert not torch.allclose(host(theirs(x, "xyz")), out, atol=1e-2 * float(out.abs().max()))


@torch.no_grad()
def test_pointcept_computes_what_we_compute(tmp_path):
    encoder, x = unet().eval(), voxels(4, (32, 32, 48))
    path = tmp_path / "e.pth"
    export_encoders(from_modules({"point_encoder": encoder}), "pointcept", path)
    backbone = SpUNet(4, UNET["channels"], UNET["depths"], UNET["stem_channels"], classes=3)
    host = Detector(backbone=backbone)
    found = pointcept(host, path)
    assert not found.unexpected_keys
    assert {k.split(".")[0] for k in found.missing_keys} == {"dense_head", "backbone"}
    assert [k for k in found.missing_keys if k.startswith("backbone.")] == [
        "backbone.final.weight",
        "backbone.final.bias",
    ]
    out = ready(backbone)(theirs(x, "xyz", extra=0))
    assert torch.equal(out.indices[:, [0, 3, 2, 1]].long(), x.coords)
    near(out.features, encoder(x).features)


def test_openpcdet_takes_a_file_with_another_prefix_for_nothing_and_says_little(tmp_path):
    """Why the report compares with the host's keys: its loader would drop all of these."""
    path = file_of(second_encoder(), "openpcdet", tmp_path / "e.pth", prefix="model.backbone_3d")
    host = Detector(backbone_3d=VoxelResBackBone8x(5))
    before = copy.deepcopy(host.state_dict())
    assert openpcdet(host, path) == set()
    assert all(torch.equal(v, before[k]) for k, v in host.state_dict().items())


class FakeOpenPCDet(VoxelResBackBone8x):
    """The class as the package has it: configuration, channels, grid; a dictionary in and out."""

    def __init__(self, model_cfg, input_channels, grid_size):
        super().__init__(input_channels)
        self.shape = [int(grid_size[2]) + 1, int(grid_size[1]), int(grid_size[0])]

    def forward(self, batch):
        x = spconv.SparseConvTensor(
            batch["voxel_features"], batch["voxel_coords"], self.shape, batch["batch_size"]
        )
        for part in (self.conv_input, self.conv1, self.conv2, self.conv3, self.conv4, self.conv_out):
            x = part(x)
        return {"encoded_spconv_tensor": x}


class FakeMmdet3d(Mmdet3dSparseEncoder):
    """The class as the package has it."""

    def __init__(self, channels, shape, *, output_channels, **_):
        super().__init__(channels, output_channels)
        self.shape, self.output_channels = shape, output_channels

    def forward(self, features, coors, batch_size):
        return super().forward(spconv.SparseConvTensor(features, coors, self.shape, batch_size)).flatten(1, 2)


class FakePointcept(SpUNet):
    """The class as the package has it; without classes it has no classifier."""

    def __init__(self, channels, num_classes, base_channels, widths, layers):
        super().__init__(channels, widths, layers, base_channels, classes=1)
        del self.final

    def forward(self, batch):
        places = batch["grid_coord"]
        coords = torch.cat([torch.zeros(len(places), 1), places], 1).int().contiguous()
        shape = [int(n) + 96 for n in places.amax(0)]
        return super().forward(spconv.SparseConvTensor(batch["feat"], coords, shape, 1)).features


PACKAGES = {
    "openpcdet": ("pcdet.models.backbones_3d.spconv_backbone", "VoxelResBackBone8x", FakeOpenPCDet),
    "mmdet3d": ("mmdet3d.models.middle_encoders", "SparseEncoder", FakeMmdet3d),
    "pointcept": (
        "pointcept.models.sparse_unet.spconv_unet_v1m1_base",
        "SpUNetBase",
        lambda inside, *, num_classes, base_channels, channels, layers: FakePointcept(
            inside, num_classes, base_channels, channels, layers
        ),
    ),
}


@pytest.mark.parametrize("host", PACKAGES)
def test_an_installed_host_is_asked_itself(host, tmp_path, monkeypatch):
    """A stand-in package whose encoder is broken on purpose is heard."""
    path, name, cls = PACKAGES[host]
    module = types.ModuleType(path)
    asked = []
    for i in range(len(path.split("."))):
        monkeypatch.setitem(sys.modules, ".".join(path.split(".")[: i + 1]), types.ModuleType("above"))
    monkeypatch.setitem(sys.modules, path, module)

    def make(*arguments, **options):
        asked.append(name)
        return cls(*arguments, **options)

    setattr(module, name, make)
    encoder = unet() if host == "pointcept" else second_encoder()
    done = export_encoders(from_modules({"e": encoder}), host, tmp_path / "e.pth", ExportOptions(verify=True))
    assert asked == [name] and done.report.parts[0].verified < 1e-4

    def broken(*arguments, **options):
        network = make(*arguments, **options)
        network.conv_input[1].eps = 0.5
        return network

    setattr(module, name, broken)
    with pytest.raises(ValueError, match=r"verify: e: the outputs of .* differ"):
        export_encoders(from_modules({"e": encoder}), host, tmp_path / "e.pth", ExportOptions(verify=True))
