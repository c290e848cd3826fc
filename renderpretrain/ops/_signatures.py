"""The structures and functions of ``csrc/renderpretrain.h``, as ctypes is told of them."""

import ctypes


class Grid(ctypes.Structure):
    """``rp_grid``: sizes of a volume and its points, voxels per metre, index of the world's origin."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("batch", "channels", "z", "y", "x", "num_points")),
        *((f"{name}_{axis}", ctypes.c_double) for name in ("scale", "offset") for axis in "xyz"),
    ]


class Box(ctypes.Structure):
    """``rp_box``: two corners in metres, and the part of the rays that counts."""

    _fields_ = [
        *((f"{name}_{axis}", ctypes.c_double) for name in ("lower", "upper") for axis in "xyz"),
        ("near", ctypes.c_double),
        ("far", ctypes.c_double),
    ]


class Frustum(ctypes.Structure):
    """``rp_frustum``: sizes of a frustum of points for every image, and of what they are pooled into."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("images", "bins", "height", "width", "channels", "cells")),
        ("bins_last", ctypes.c_bool),
    ]


class Window(ctypes.Structure):
    """``rp_window``: sizes of the volumes a 3D kernel connects, and how it walks."""

    _fields_ = [
        ("batch", ctypes.c_int64),
        *(
            (f"{name}_{axis}", ctypes.c_int64)
            for name in ("in", "out", "kernel", "stride", "padding")
            for axis in "zyx"
        ),
    ]


class Lift(ctypes.Structure):
    """``rp_lift``: sizes of maps, depth distributions and points, and how they lie in memory."""

    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            *("batch", "views", "channels", "depths", "height", "width", "num_points"),
            *("feature_type", "probability_type", "cell_stride", "depth_stride", "mean"),
        )
    ]


class Rays(ctypes.Structure):
    """``rp_rays``: sizes of the values along rays, how they are stored, and where rays end."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("rays", "samples", "channels", "stored_type")),
        ("early_stop", ctypes.c_double),
    ]


class Mlp(ctypes.Structure):
    """``rp_mlp``: sizes of a network whose input is added before every layer."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("position", "in", "hidden", "out", "blocks", "activation")),
        ("beta", ctypes.c_double),
    ]


class Head(ctypes.Structure):
    """``rp_head``: a network on top of a field, what it sees, and what becomes of its output."""

    _fields_ = [("mlp", Mlp), ("directions", ctypes.c_int64), ("sigmoid", ctypes.c_int64)]


class Field(ctypes.Structure):
    """``rp_field``: where a volume of features is, and the networks that decode it."""

    _fields_ = [
        ("grid", Grid),
        ("extent", ctypes.c_double),
        *(
            (name, ctypes.c_int64)
            for name in (
                "distance_channels",
                "first_feature",
                "num_samples",
                "direction_channels",
                "num_heads",
            )
        ),
        ("distance", Mlp),
        ("heads", Head * 2),
    ]


class MlpInputs(ctypes.Structure):
    """``rp_mlp_inputs``: what a network reads at points, and its sizes."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("num_points", "num_inputs", "sigmoid")),
        *((name, ctypes.c_int64 * 4) for name in ("channels", "samples")),
        ("mlp", Mlp),
    ]


SIGNATURES = {
    "accumulate": "ppyp",
    "accumulate_backward": "pppypp",
    "box_intersect": "ppnbppp",
    "composite": "ppnnp",
    "composite_backward": "pppnnpp",
    "composite_values": "ppppypppp",
    "composite_values_backward": "pppppppppppyppp",
    "distortion_loss": "ppppnnp",
    "distortion_loss_backward": "pppppnnppp",
    "frustum_coordinates": "pnpnndddpp",
    "fused_mlp": "pppppppmpnp",
    "fused_mlp_backward": "pppppppmpnppppppp",
    "fused_mlp_scratch": "pmn",
    "grid_sample": "pnpgp",
    "grid_sample_backward": "pppnpgppp",
    "image_lift": "pppplp",
    "image_lift_backward": "ppppplpp",
    "lss_pool": "pnpppppfp",
    "lss_pool_backward": "ppnppfpp",
    "march": "pppppgdnpppp",
    "march_count": "pppppgdp",
    "march_fill": "pppppgdpppp",
    "neus_alphas": "ppppnp",
    "neus_alphas_backward": "pppppnppppp",
    "neus_render": "pppppppypppp",
    "neus_render_backward": "ppppppppppppppyppppppp",
    "neus_upsample": "pppnnnndpp",
    "raycast_grid": "pppgpp",
    "resample": "pppnnnpp",
    "sdf_field": "pppppspnpppppp",
    "sdf_field_backward": "pppppspnpppppppppp",
    "sdf_field_scratch": "psn",
    "segment_scan": "ppppnnn",
    "sparse_conv3d": "pppnnnnnpp",
    "sparse_conv3d_backward_kernel": "pppnnnnnnpp",
    "sparse_count_outputs": "ppppwp",
    "sparse_list_outputs": "ppppwpp",
    "sparse_pairs": "ppppwnnpp",
    "voxel_index": "ppgbp",
    "voxel_scatter": "pnpppnnnn",
    "voxel_scatter_backward": "pnpppnnnnp",
}
"""Arguments of every native function: ``p`` pointer, ``n`` int64, ``d`` double, and a structure by its
pointer: ``g`` grid, ``b`` box, ``f`` frustum, ``l`` lift, ``w`` window, ``y`` rays, ``s`` field, ``m`` inputs
of a network. A type code goes before them, the number of threads (CPU) or the stream (CUDA) behind them."""

CPU_SIGNATURES = {
    "cell_offsets": "pnnp",
    "check_each_once": "pnp",
    "check_rising": "pnnn",
    "check_rows": "pnnn",
    "occupied_cells": "ppnnppppp",
    "sort_cells": "pnnppppp",
}
"""Signatures that the CPU has alone: elsewhere PyTorch sorts well."""

CUDA_SIGNATURES = {
    "sparse_conv3d_arrange": "ppnnnpp",
    "sparse_conv3d_masks": "pnnnp",
    "sparse_conv3d_mma": "pppppnnnnnnnnnp",
    "sparse_conv3d_mma_backward_kernel": "pppppnnnnnnnpp",
}
"""Signatures that CUDA has alone: what runs on tensor cores."""
