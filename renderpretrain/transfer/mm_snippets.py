"""Lines for mmdetection3d and for BEVFusion, a fork of it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from renderpretrain.encoders.rulebook import ConvSpec
from renderpretrain.encoders.strides import covering_shape
from renderpretrain.transfer.columns import read_by, use_dim
from renderpretrain.transfer.encoder import Encoder, Pretrained
from renderpretrain.transfer.image_words import IMAGE_KINDS, MEAN, STD, image_arguments, image_words, no_depth
from renderpretrain.transfer.layouts import Tensors


def mmdet3d_lines(pretrained: Pretrained, tensors: Tensors) -> list[str]:
    """Lines of mmdetection3d's Python configuration."""
    box, size = grid_of(pretrained)
    lines = ["load_from = 'FILE'", f"point_cloud_range = {list(box)}" if box else ""]
    lines += [f"voxel_size = {list(size)}" if size else ""]
    columns = read_by(pretrained)
    if use_dim(columns):
        lines.append(f"# LoadPointsFromFile: use_dim={use_dim(columns)}")
    lines += ["model = dict("]
    if columns:
        lines.append(f"    pts_voxel_encoder=dict(type='HardSimpleVFE', num_features={len(columns)}),")
    for encoder in pretrained.encoders.values():
        lines += _mm_part(encoder, tensors, _cells(box, size))
    if any(e.kind in IMAGE_KINDS for e in pretrained.encoders.values()):
        lines.append(f"    data_preprocessor=dict(mean={list(MEAN)}, std={list(STD)}, bgr_to_rgb=True),")
    return [*lines, ")"]


def _mm_part(encoder: Encoder, tensors: Tensors, cells: Sequence[int] | None) -> list[str]:
    """Lines of one encoder."""
    spec = encoder.spec
    if encoder.kind == "SparseEncoder":
        flat = not any(key.startswith("pts_middle_encoder.conv_out.") for key in tensors)
        shape = list(_sparse_shape(spec, cells)) if cells else "[Z + 1, Y, X]"
        return [
            "    pts_middle_encoder=dict(type='SparseEncoder', block_type='basicblock',",
            f"        in_channels={spec['in_channels']}, sparse_shape={shape},",
            f"        base_channels={spec['channels'][0][0]}, output_channels={spec['out_channels']},",
            f"        encoder_channels={spec['channels']},",
            f"        encoder_paddings={_paddings(spec)},",
            "        norm_cfg=dict(type='BN1d', eps=1e-3, momentum=0.01)),",
            "    # without conv_out: the host halves the height there, the recipe does not" if flat else "",
        ]
    if encoder.kind == "VoxelBackBone8x":
        return [
            f"    pts_middle_encoder=dict(type='SparseEncoder', in_channels={spec['in_channels']}, "
            "norm_cfg=dict(type='BN1d', eps=1e-3, momentum=0.01)),"
        ]
    if encoder.kind in IMAGE_KINDS:
        return [
            f"    {no_depth(encoder)}" if no_depth(encoder) else "",
            f"    {'# ' if no_depth(encoder) else ''}img_backbone=dict({image_words(encoder)}),",
        ]
    return _mm_neck(encoder)


def _mm_neck(encoder: Encoder) -> list[str]:
    """Lines of what comes after an encoder."""
    spec = encoder.spec
    if encoder.kind == "FPN":
        extra = (
            ", add_extra_convs='on_output', relu_before_extra_convs=True" if spec.get("extra_convs") else ""
        )
        start = f", start_level={spec['start_level']}" if spec.get("start_level") else ""
        return [
            f"    img_neck=dict(type='FPN', in_channels={spec['in_channels']}, "
            f"out_channels={spec['out_channels']}, num_outs={spec['num_outs']}{start}{extra}),"
        ]
    if encoder.kind == "VolumeNeck":
        return _volume_neck(spec)
    if encoder.kind == "LSSFPN":
        return [
            f"    img_neck=dict(type='GeneralizedLSSFPN', in_channels={spec['in_channels']}, "
            f"out_channels={spec['out_channels']}),",
            "    # its other arguments are the host's own",
        ]
    if encoder.kind == "BEVFormerLifter":
        return ["    # pts_bbox_head: keep the host's own lines of BEVFormer"]
    return []


def bevfusion_lines(pretrained: Pretrained, tensors: Tensors) -> list[str]:
    """Lines of BEVFusion's YAML, nested as its reader wants them."""
    box, size = grid_of(pretrained)
    said: list[str] = []
    lidar: dict[str, Any] = {}
    camera: dict[str, Any] = {}
    for encoder in pretrained.encoders.values():
        spec = encoder.spec
        if encoder.kind == "SparseEncoder":
            lidar["backbone"] = _bevfusion_sparse(spec, _cells(box, size))
            flat = not any(key.startswith("encoders.lidar.backbone.conv_out.") for key in tensors)
            said += ["# without conv_out: the host halves the height there, the recipe does not"] * flat
        elif encoder.kind in IMAGE_KINDS and no_depth(encoder):
            said += [no_depth(encoder), f"# model.encoders.camera.backbone: {image_words(encoder)}"]
        elif encoder.kind in IMAGE_KINDS:
            camera["backbone"] = image_arguments(encoder)
        elif encoder.kind == "LSSFPN":
            sizes = {"in_channels": spec["in_channels"], "out_channels": spec["out_channels"]}
            camera["neck"] = {"type": "GeneralizedLSSFPN", **sizes}
            said.append("# neck: its other arguments are the host's own")
        elif encoder.kind == "DepthLSS":
            camera["vtransform"] = {"type": "DepthLSSTransform"}
            said.append("# vtransform: its sizes and its grid are the host's own")
    built = {name: parts for name, parts in (("lidar", lidar), ("camera", camera)) if parts}
    tree: dict[str, Any] = {"load_from": "FILE"}
    tree |= {"point_cloud_range": list(box)} if box else {}
    tree |= {"voxel_size": list(size)} if size else {}
    places = use_dim(read_by(pretrained))
    tree |= {"use_dim": len(places) if places == list(range(len(places))) else places} if places else {}
    tree |= {"model": {"encoders": built}} if built else {}
    text = yaml.dump(tree, Dumper=_Nested, default_flow_style=None, sort_keys=False, width=math.inf)
    return ["# configs/...yaml", *said, *text.splitlines()]


def _bevfusion_sparse(spec: Mapping[str, Any], cells: Sequence[int] | None) -> dict[str, Any]:
    """BEVFusion's sparse encoder: along x, y, z, where ours and mmdetection3d's have z, y, x."""
    paddings = [[p[::-1] if isinstance(p, list) else p for p in stage] for stage in _paddings(spec)]
    return {
        "type": "SparseEncoder",
        "block_type": "basicblock",
        "in_channels": spec["in_channels"],
        "sparse_shape": list(_sparse_shape(spec, cells))[::-1] if cells else "[X, Y, Z + 1]",
        "base_channels": spec["channels"][0][0],
        "output_channels": spec["out_channels"],
        "encoder_channels": spec["channels"],
        "encoder_paddings": paddings,
    }


class _Nested(yaml.SafeDumper):
    """Tuples as lists, and no anchors: lists that happen to be one are written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Nested.add_representer(tuple, lambda dumper, value: dumper.represent_list(list(value)))


def _volume_neck(spec: Mapping[str, Any]) -> list[str]:
    """UniPAD's two modules; https://github.com/Nightmare-n/UniPAD, uvtr_lidar_vs0.075_pretrain.py."""
    widths, strides = list(spec["channels"]), list(spec["strides"])
    branches = len(widths)
    norm = "norm_cfg=dict(type='BN3d', eps=1e-3, momentum=0.01)"
    return [
        "    pts_backbone=dict(type='SECOND3D', is_cascade=False,",
        f"        in_channels={[spec['in_channels']] * branches}, out_channels={widths},",
        f"        layer_nums={[spec['num_blocks']] * branches}, layer_strides={strides},",
        f"        {norm},",
        "        conv_cfg=dict(type='Conv3d', kernel=(1, 3, 3), bias=False)),",
        "    pts_neck=dict(type='SECOND3DFPN',",
        f"        in_channels={widths}, out_channels={[spec['out_channels']] * branches},",
        f"        upsample_strides={strides}, {norm},",
        "        upsample_cfg=dict(type='deconv3d', bias=False), use_conv_for_no_stride=True),",
        "    # UniPAD's configurations for fine-tuning add an extra_conv, which starts anew",
    ]


def _paddings(spec: Mapping[str, Any]) -> list[list[Any]]:
    """Of every layer of every stage, in z, y, x; those of blocks, which no host reads, are 1."""
    stages = zip(spec["channels"], spec["paddings"], strict=False)
    paddings = [[1] * (len(widths) - 1) + [padding] for widths, padding in stages]
    return [*paddings, [1] * len(spec["channels"][-1])]


def grid_of(pretrained: Pretrained) -> tuple[Sequence[float] | None, Sequence[float] | None]:
    """The box and the encoder's voxels, where a run's configuration says them."""
    config: Mapping[str, Any] = pretrained.about.get("config") or {}
    for section in ("lidar", "encoder"):
        if "voxel_size" in config.get(section, {}):
            return config["point_cloud_range"], config[section]["voxel_size"]
    return config.get("point_cloud_range"), None


def _cells(box: Sequence[float] | None, size: Sequence[float] | None) -> list[int] | None:
    """Voxels along x, y, z."""
    if not box or not size:
        return None
    return [math.ceil((box[i + 3] - box[i]) / size[i] - 1e-6) for i in range(3)]


def _sparse_shape(spec: Mapping[str, Any], cells: Sequence[int]) -> tuple[int, int, int]:
    """``(Z, Y, X)`` that a host must be told so that its volume is as large as ours."""
    strided = zip(spec["strides"], spec["paddings"], strict=True)
    convs = [ConvSpec("strided", (3, 3, 3), tuple(stride), tuple(padding)) for stride, padding in strided]
    return covering_shape((cells[2], cells[1], cells[0]), convs)
