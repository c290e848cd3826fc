"""BEVFusion and NS-MAE, a fork of mmdetection3d: what differs, and the lines of its configuration."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import yaml
from torch import Tensor

from renderpretrain.transfer.columns import read_by
from renderpretrain.transfer.encoder import Pretrained
from renderpretrain.transfer.hosts.mmdet3d import (
    LSSFPN_PART,
    RESIDUAL,
    RESNET,
    SWIN_PART,
    cells_of,
    check_residual,
    paddings_of,
    sparse_shape,
    use_dim,
)
from renderpretrain.transfer.image_snippets import image_arguments, image_summary, no_depth
from renderpretrain.transfer.layouts import Layout, Tensors
from renderpretrain.transfer.part import IMAGE_NORM, Host, Pair, Part, State
from renderpretrain.transfer.restating.layers import Weights, batch_norm, conv
from renderpretrain.transfer.snippets import grid_of

LAYOUT = Layout("RSCK", "xyz")


def swap_map_axes(tensors: Tensors) -> Tensors:
    """BEVFusion's bird's-eye maps are ``(X, Y)``, ours ``(Y, X)``: so are the kernels on them."""
    return {
        k: v.transpose(2, 3).contiguous() if k.startswith("downsample.") and v.ndim == 4 else v
        for k, v in tensors.items()
    }


def snippet(pretrained: Pretrained, tensors: Tensors) -> list[str]:
    """Lines of its YAML, nested as its reader wants them."""
    box, size = grid_of(pretrained)
    said: list[str] = []
    lidar: dict[str, Any] = {}
    camera: dict[str, Any] = {}
    for encoder in pretrained.encoders.values():
        spec = encoder.spec
        if encoder.kind == "SparseEncoder":
            lidar["backbone"] = _sparse_encoder(spec, cells_of(box, size))
            flat = not any(key.startswith("encoders.lidar.backbone.conv_out.") for key in tensors)
            said += ["# without conv_out: the host halves the height there, the recipe does not"] * flat
        elif encoder.role.reads == "images" and no_depth(encoder):
            said += [
                no_depth(encoder),
                f"# model.encoders.camera.backbone: {image_summary(encoder)}",
            ]
        elif encoder.role.reads == "images":
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


def _sparse_encoder(spec: Mapping[str, Any], cells: Sequence[int] | None) -> dict[str, Any]:
    """BEVFusion's sparse encoder: along x, y, z, where ours and mmdetection3d's have z, y, x."""
    paddings = [[p[::-1] if isinstance(p, list) else p for p in stage] for stage in paddings_of(spec)]
    return {
        "type": "SparseEncoder",
        "block_type": "basicblock",
        "in_channels": spec["in_channels"],
        "sparse_shape": list(sparse_shape(spec, cells))[::-1] if cells else "[X, Y, Z + 1]",
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


def check_depth_lss(module: Any, state: State, generator: torch.Generator) -> Pair:
    """The three stacks of convolutions; the last runs on a map of BEVFusion's ``(X, Y)``."""
    depthnet = torch.randn(1, module.depthnet[0].in_channels, 10, 14, generator=generator)
    bev = torch.randn(1, module.downsample[0].in_channels, 16, 24, generator=generator)
    scale = module.downsample[3].stride[0]
    ours = [module.depthnet(depthnet), module.downsample(bev)]
    swapped = conv_stack(state, "downsample", bev.transpose(2, 3), (1, scale, 1)).transpose(2, 3)
    theirs = [conv_stack(state, "depthnet", depthnet, (1, 1, 1)), swapped]
    if module.dtransform is not None:
        depth = torch.randn(1, 1, 32, 48, generator=generator)
        ours.append(module.dtransform(depth))
        theirs.append(conv_stack(state, "dtransform", depth, (1, 4, 2)))
    return ours, theirs


def conv_stack(state: Weights, name: str, x: Tensor, strides: Sequence[int]) -> Tensor:
    """Convolutions under the keys 0, 3, ..., each with batch norm and ReLU where the file has a norm next."""
    for i, stride in enumerate(strides):
        weight = state[f"{name}.{3 * i}.weight"]
        x = conv(state, f"{name}.{3 * i}", x, stride, weight.shape[2] // 2)
        if f"{name}.{3 * i + 1}.running_mean" in state:
            x = batch_norm(state, f"{name}.{3 * i + 1}", x).relu()
    return x


BACKBONE = "encoders.camera.backbone."
PARTS = (
    replace(RESIDUAL, prefix="encoders.lidar.backbone.", check=partial(check_residual, layout=LAYOUT)),
    replace(SWIN_PART, prefix=BACKBONE),
    replace(RESNET, prefix=BACKBONE),
    replace(LSSFPN_PART, prefix="encoders.camera.neck."),
    Part(
        "DepthLSS",
        "encoders.camera.vtransform.",
        "DepthLSSTransform",
        marker="depthnet.0.weight",
        to_host=swap_map_axes,
        from_host=swap_map_axes,
        norm=IMAGE_NORM,
        check=check_depth_lss,
    ),
)
BEVFUSION = Host(
    "bevfusion",
    "BEVFusion (MIT) and NS-MAE",
    "state_dict",
    LAYOUT,
    PARTS,
    snippet,
    warning="a kernel in z, y, x order has the right shape and loads silently; this file has x, y, z",
)
