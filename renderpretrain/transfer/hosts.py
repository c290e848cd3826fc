"""The frameworks that weights go to and come from."""

from dataclasses import replace

from renderpretrain.transfer.image_parts import (
    ANY_LIBRARY,
    BEVFORMER,
    BEVFUSION_IMAGE,
    MMDET3D_IMAGE,
    TIMM,
    TORCHVISION,
    UNIPAD_IMAGE,
    VOLUME_NECK,
)
from renderpretrain.transfer.layouts import Layout
from renderpretrain.transfer.part import Host
from renderpretrain.transfer.sparse_parts import (
    BEVFUSION_RESIDUAL,
    MMDET3D_PLAIN,
    MMDET3D_RESIDUAL,
    OPENPCDET_PLAIN,
    OPENPCDET_RESIDUAL,
    POINTCEPT_PROMPTED,
    POINTCEPT_UNET,
    UNIPAD_RESIDUAL,
)

OPENPCDET = Host(
    "openpcdet",
    "OpenPCDet",
    "model_state",
    Layout("KRSC", "zyx"),
    (OPENPCDET_RESIDUAL, OPENPCDET_PLAIN),
    trap="keys it does not know are dropped with one line in the log: look for 'loaded N/M'",
)
MMDET3D = Host(
    "mmdet3d",
    "mmdetection3d 1.x with spconv 2",
    "state_dict",
    Layout("KRSC", "zyx"),
    (MMDET3D_RESIDUAL, MMDET3D_PLAIN, *MMDET3D_IMAGE),
    versions=True,
    trap="load_from keeps the layout's version, init_cfg=dict(type='Pretrained', prefix=...) loses it and "
    "loads nothing sparse: for that export --to mmdet3d-0.17",
)
MMDET3D_017 = Host(
    "mmdet3d-0.17",
    "mmdetection3d 0.x (UniPAD, UVTR, BEVFormer) or 1.x without spconv 2",
    "state_dict",
    Layout("RSCK", "zyx"),
    (UNIPAD_RESIDUAL, MMDET3D_PLAIN, VOLUME_NECK, *UNIPAD_IMAGE, BEVFORMER),
    trap="mismatches are only logged: read the log after load_from",
)
BEVFUSION = Host(
    "bevfusion",
    "BEVFusion (MIT) and NS-MAE",
    "state_dict",
    Layout("RSCK", "xyz"),
    (BEVFUSION_RESIDUAL, *BEVFUSION_IMAGE),
    trap="a kernel in z, y, x order has the right shape and loads silently; this file has x, y, z",
)
POINTCEPT = Host(
    "pointcept",
    "Pointcept and PonderV2",
    "state_dict",
    Layout("KRSC", "xyz"),
    (POINTCEPT_UNET, POINTCEPT_PROMPTED),
    outer="module.",
    trap="missing keys are only logged",
)
TIMM_HOST = Host("timm", "timm", None, Layout(), TIMM)
TORCHVISION_HOST = Host("torchvision", "torchvision", None, Layout(), TORCHVISION)

HOSTS = {
    host.name: host
    for host in (OPENPCDET, MMDET3D, MMDET3D_017, BEVFUSION, POINTCEPT, TIMM_HOST, TORCHVISION_HOST)
}
"""Where weights can go."""

SOURCES = HOSTS | {
    "timm": replace(TIMM_HOST, parts=ANY_LIBRARY),
    "torchvision": replace(TORCHVISION_HOST, parts=ANY_LIBRARY),
    "unipad": replace(MMDET3D_017, name="unipad", title="UniPAD"),
    "ponderv2": replace(POINTCEPT, name="ponderv2", title="PonderV2"),
    "nsmae": replace(BEVFUSION, name="nsmae", title="NS-MAE"),
    "uniscene": replace(MMDET3D_017, name="uniscene", title="UniScene"),
}
"""Where weights can come from: the hosts, and the four published systems, whose files are theirs."""
