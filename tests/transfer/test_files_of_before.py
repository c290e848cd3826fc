"""What was written once is read for ever, and what is written now is what was written then, to the byte.

``files_of_before.json`` holds what the code of commit c09784a wrote and read of small encoders: their own
file's header, and digests of the hosts' files, of the reports and of what came back, with the snippets.
"""

import hashlib
import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from renderpretrain.encoders import (
    FPN,
    LSSFPN,
    ConvNeXt,
    ResNet,
    SparseEncoder,
    SparseUNet,
    SwinTransformer,
    VolumeNeck,
    VoxelBackBone8x,
)
from renderpretrain.storage.safetensors_file import pack_tensors
from renderpretrain.transfer import (
    HOSTS,
    SOURCES,
    ExportOptions,
    ImportOptions,
    Pretrained,
    export_encoders,
    from_modules,
    import_encoders,
    initialize_encoders,
    load_encoder,
    prepare_export,
    read_pretrained,
)
from renderpretrain.transfer.encoder import ROLES_OF_BEFORE, Encoder
from renderpretrain.transfer.verify import read_as_host

BEFORE = json.loads((Path(__file__).parent / "files_of_before.json").read_text())
SINCE = {"torch-pointcloud"}
"""Hosts that came later."""

SECOND = ((3, 1, 1), (2, 1, 1), 0)
PROMPTED = {"channels": (8, 12, 12, 8), "depths": (1, 2, 1, 1), "stem_channels": 6, "prompt": (3, 16)}
MODULES = {
    "second": ("lidar_encoder", lambda: SparseEncoder(5, 128, out_geometry=SECOND)),
    "unipad": ("lidar_encoder", lambda: SparseEncoder(4)),
    "openpcdet": ("lidar_encoder", lambda: VoxelBackBone8x(4)),
    "unet": ("point_encoder", lambda: SparseUNet(6, channels=(8, 12, 12, 8), depths=(1,) * 4)),
    "prompted": ("point_encoder", lambda: SparseUNet(4, **PROMPTED)),
    "resnet": ("image_backbone", lambda: ResNet((1, 2, 1, 1), bottleneck=True, width=8, stride_first=True)),
    "basic": ("image_backbone", lambda: ResNet((2, 1, 1, 2), width=8, out_indices=(1, 3))),
    "convnext": ("image_backbone", lambda: ConvNeXt((1, 1, 2, 1), (8, 16, 24, 32), out_indices=(2, 3))),
    "swin": ("image_backbone", lambda: SwinTransformer((2, 2, 2, 2), 32, window=5, mask_token=True)),
    "fpn": ("image_neck", lambda: FPN((8, 16, 24), 12, start_level=1, num_outs=4)),
    "fpn-extra": ("image_neck", lambda: FPN((8, 16, 24), 12, num_outs=5, extra_convs=True)),
    "lssfpn": ("image_neck", lambda: LSSFPN((8, 16, 32), 12)),
    "neck": ("lidar_neck", lambda: VolumeNeck(8, 12, channels=(8, 16), strides=(1, 2), num_blocks=1)),
}
LIFTERS = {
    "DepthLSS": {
        "depthnet.0.weight": (8, 4, 3, 3),
        "downsample.0.weight": (8, 4, 3, 3),
        "downsample.3.weight": (8, 8, 3, 1),
    },
    "BEVFormerLifter": {"bev_embedding.weight": (6, 8), "transformer.level_embeds": (4, 8)},
}


def digest(value):
    return hashlib.sha256(value if isinstance(value, bytes) else json.dumps(value).encode()).hexdigest()[:16]


def numbers(key, shape):
    """Values that nobody's random generator has to draw again: eighths, and positive where a variance is."""
    if key.endswith("num_batches_tracked"):
        return torch.tensor(7)
    start = sum(key.encode()) % 13
    values = ((torch.arange(torch.Size(shape).numel()) * 7 + start) % 13 - 6) / 8
    return (values.abs() + 0.5 if key.endswith("running_var") else values).reshape(shape)


def filled(module):
    state = module.state_dict()
    module.load_state_dict({key: numbers(key, value.shape) for key, value in state.items()})
    return module


def encoders_of(kind):
    if kind in LIFTERS:
        tensors = {key: numbers(key, shape) for key, shape in LIFTERS[kind].items()}
        return Pretrained({"view_transform": Encoder({"kind": kind}, tensors)})
    name, make = MODULES[kind]
    config = {"point_cloud_range": [0, -8, -3, 16, 8, 1], "lidar": {"voxel_size": [0.25, 0.25, 0.2]}}
    return from_modules({name: filled(make())}, {"preset": "tiny", "config": config, "statistics": "masked"})


def digest_of(tensors):
    text = hashlib.sha256()
    for key, value in tensors.items():
        text.update(f"{key} {tuple(value.shape)} {value.dtype}".encode())
        text.update(value.contiguous().numpy().tobytes())
    return text.hexdigest()[:16]


def alike(source, host):
    """Whether files of a source lie as those of a host do."""
    a, b = SOURCES[source], HOSTS[host]
    return (a.wrapper, a.outer, a.layout) == (b.wrapper, b.outer, b.layout)


def away(pretrained, host):
    """What goes to a host: its file, the report, the lines to paste; or why none does."""
    try:
        done = prepare_export(pretrained, host, ExportOptions(min_match=0))
    except ValueError as error:
        return {"refused": str(error)}, None
    return {
        "file": digest_of(read_as_host(done.content, HOSTS[host])),
        "report": digest(done.report.as_tree()),
        "snippet": done.snippet,
    }, done.content


def back(content, source, folder, before):
    """What comes back from a host: the description, the weights, the report; or why nothing does.

    An encoder that was called something else then is called so here.
    """
    path = folder / "theirs.pth"
    path.write_bytes(content)
    try:
        found = import_encoders(path, source, options=ImportOptions(min_match=0))
    except ValueError as error:
        return {"refused": str(error).removeprefix(f"{path}: ")}
    ((name, encoder),) = found.pretrained.encoders.items()
    said = digest([dict(encoder.spec), list(encoder.columns), list(encoder.fresh)])
    report = json.dumps(found.report.as_tree())
    if ROLES_OF_BEFORE.get(before) == name:
        name, report = before, report.replace(name, before)
    return {
        "name": name,
        "said": said,
        "weights": digest_of(encoder.tensors),
        "report": digest(report.encode()),
    }


def everything(kind, folder):
    """All that leaves and all that returns of one encoder."""
    pretrained, found = encoders_of(kind), {}
    content = prepare_export(pretrained, "safetensors", ExportOptions())
    found["ours"] = {"file": digest(content.content), "snippet": content.snippet}
    for host in HOSTS:
        found[f"to {host}"], content = away(pretrained, host)
        for source in [n for n in SOURCES if content and alike(n, host)]:
            found[f"from {host} as {source}"] = back(content, source, folder, next(iter(pretrained.encoders)))
    return found


@pytest.mark.parametrize("kind", [*MODULES, *LIFTERS])
def test_files_reports_and_snippets_are_those_of_before(kind, tmp_path):
    now = {way: f for way, f in everything(kind, tmp_path).items() if not SINCE & set(way.split())}
    assert list(now) == list(BEFORE[kind]["found"])
    for way, expected in BEFORE[kind]["found"].items():
        assert now[way] == expected, way


@pytest.mark.parametrize("kind", MODULES)
def test_a_file_of_before_is_loaded(kind, tmp_path):
    """The header is the one that was written then; the weights are drawn again."""
    name, make = MODULES[kind]
    tensors = {
        f"{name}.{key}": numbers(key, value.shape).contiguous() for key, value in make().state_dict().items()
    }
    path = tmp_path / "before.safetensors"
    path.write_bytes(pack_tensors(tensors, BEFORE[kind]["header"]))
    assert digest(path.read_bytes()) == BEFORE[kind]["found"]["ours"]["file"]
    module = load_encoder(path)
    assert isinstance(module, nn.Module) and type(module) is type(make())
    assert all(torch.equal(module.state_dict()[k.removeprefix(f"{name}.")], v) for k, v in tensors.items())
    now = read_pretrained(path).encoders[ROLES_OF_BEFORE.get(name, name)]
    assert now.spec == json.loads(BEFORE[kind]["header"]["encoders"])[name]


def test_parts_that_were_called_something_else_are_said_to_be_called_what_they_are_now(tmp_path):
    old = from_modules({"lidar_encoder": filled(SparseEncoder(4)), "lidar_neck": MODULES["neck"][1]()})
    path = tmp_path / "before.safetensors"
    path.write_bytes(prepare_export(old, "safetensors", ExportOptions()).content)
    assert list(read_pretrained(path).encoders) == ["point_encoder", "point_neck"]
    expected = (
        "part: expected one of point_encoder, point_neck{}, got 'lidar_neck'; it is called point_neck now"
    )
    with pytest.raises(ValueError, match=re.escape(expected.format(f" in {path}"))):
        load_encoder(path, "lidar_neck")
    with pytest.raises(ValueError, match=re.escape(expected.format(""))):
        export_encoders(path, "safetensors", tmp_path / "now.safetensors", ExportOptions(part="lidar_neck"))
    recipe = {"point_encoder": SparseEncoder(4), "point_neck": MODULES["neck"][1]()}
    assert not any(line.endswith("anew") for line in initialize_encoders(recipe, path))
    both = from_modules({"lidar_encoder": SparseEncoder(4), "point_encoder": SparseEncoder(4)})
    path.write_bytes(prepare_export(both, "safetensors", ExportOptions()).content)
    assert list(read_pretrained(path).encoders) == ["lidar_encoder", "point_encoder"]
