"""Sources of UniPAD's numbers."""

from renderpretrain.recipes.sources.listing import (
    CALIBRATION,
    CYCLE,
    OURS,
    UNREFINED,
    UNSCHEDULED,
    WARM_UP,
    Sources,
    listed,
    unused,
)

CODE = "https://github.com/Nightmare-n/UniPAD, 3d24add; configurations in projects/configs/unipad"

_CAMERA, _LIDAR = "uvtr_cam_vs0.1_pretrain.py", "uvtr_lidar_vs0.075_pretrain.py"

_SHARED = CALIBRATION | listed(
    {
        "ours (code: 900 rows, padded to 928 with zeros)": "image_size",
        "code render_head.py:47-57": "render.channels",
        "code render_utils/scene_colliders.py:30-33": "render.near",
        "code render_head.py:160-167": "render.near_radius",
        "code render_head.py:295-405": "render.rays_per_camera render.stride render.sky",
        "ours": "lidar.batch_norm_momentum losses.inliers",
        "code render_utils/fields/sdf_field.py:36-53": "render.sharpness",
        "code render_utils/ray_samplers.py:316-448": "render.upsample_sharpness",
        "code uvtr_cam_vs0.1_pretrain.py:107-117": "render.hidden_channels render.sdf_blocks",
        "code uvtr_cam_vs0.1_pretrain.py:119-127": "render.num_samples render.num_importance",
    }
)

_SCHEDULE = "optimizer lr weight_decay lr_multipliers"

CAMERA = {
    **_SHARED,
    **listed(
        {
            f"code {_CAMERA}:11-21": "point_cloud_range voxel_size",
            f"code {_CAMERA}:66-74": "channels image.first_level image.num_levels",
            f"code {_CAMERA}:51-65": (
                "image.backbone image.depths image.widths image.drop_path image.frozen_stages"
            ),
            "ours (code: ConvNeXt-S of ImageNet-1k)": "image.weights",
            "ours": "image.layer_scale",
            f"code {_CAMERA}:62-64": "image.mask_ratio image.patch_size",
            "code uvtr_ssl.py:61-66": "image.depth_bins",
            "code uni3d_viewtrans.py:138-244": "image.depth_range",
            f"code {_CAMERA}:92-94": "render.far_radius",
            f"code {_CAMERA}:107-117": "render.rgb_blocks",
            f"code {_CAMERA}, 10 per 51.2 m": "losses.depth",
            f"code {_CAMERA}": ("modality sweeps losses.rgb losses.free_space losses.sdf losses.eikonal"),
            "code uvtr_cam_vs0.075_pretrain.py:90": "losses.depth_bins",
        }
    ),
    **listed(
        {
            f"code {_CAMERA}, 12 epochs": "steps",
            f"code {_CAMERA}; 4 GPUs in dist_train_ssl.sh": "batch_size",
            f"code {_CAMERA}:222-231": _SCHEDULE,
            f"code {_CAMERA}": f"schedule clip_norm {WARM_UP}",
            f"ours (code: fp16, {_CAMERA})": "precision",
            "ours": OURS,
        },
        "optimization.",
    ),
}

LIDAR = {
    **_SHARED,
    **listed(
        {
            f"code {_LIDAR}": (
                "modality sweeps points lidar.voxel_size"
                " losses.rgb losses.free_space losses.sdf losses.eikonal"
            ),
            f"code {_LIDAR}:11-18": "point_cloud_range voxel_size",
            f"code {_LIDAR}:58-69": "channels lidar.channels",
            f"code {_LIDAR}:70-79": "lidar.neck_blocks lidar.neck_channels",
            "code mask_sparse_encoder_hd.py:126-144": "lidar.mask_ratio lidar.mask_block",
            "ours": "render.rays_per_sweep",
            "code render_head.py:160-167": "render.far_radius",
            f"code {_LIDAR}, 10 per 54 m": "losses.depth",
        }
    ),
    **listed(
        {
            f"code {_LIDAR}, 12 epochs": "steps",
            f"code {_LIDAR}; 4 GPUs in dist_train_ssl.sh": "batch_size",
            f"code {_LIDAR}:250": "optimizer lr weight_decay",
            f"code {_LIDAR}": f"schedule clip_norm warmup_steps {CYCLE}",
            f"ours (code: fp16, {_LIDAR})": "precision",
            "ours": f"{OURS} lr_multipliers",
        },
        "optimization.",
    ),
}

_FROM_CAMERA = (
    "image.",
    "optimization.",
    "render.rays_",
    "render.rgb_blocks",
    "losses.rgb",
    "losses.depth_bins",
)

FUSION = {
    **{name: source for name, source in LIDAR.items() if not name.startswith(_FROM_CAMERA)},
    **{name: source for name, source in CAMERA.items() if name.startswith(_FROM_CAMERA)},
    "modality": "ours (no released configuration trains both)",
}
"""The numbers of the two others side by side."""

UNUSED = (
    UNREFINED,
    *UNSCHEDULED,
    unused(
        "backbone weights depths widths bottleneck drop_path layer_scale frozen_stages first_level"
        " num_levels mask_ratio patch_size depth_bins depth_range",
        "image.",
        when={"modality": "lidar"},
    ),
    unused("losses.depth_bins calibration.alignment", when={"modality": "lidar"}),
    unused(
        "voxel_size mask_ratio mask_block channels neck_blocks neck_channels",
        "lidar.",
        when={"modality": "camera"},
    ),
    unused("points", when={"modality": "camera"}),
    *(unused("render.rays_per_sweep", when={"modality": sensors}) for sensors in ("camera", "fusion")),
    unused("image.bottleneck", when={"image.backbone": "convnext"}),
    unused("image.drop_path image.layer_scale", when={"image.backbone": "resnet"}),
    unused("render.rgb_blocks", when={"losses.rgb": 0}),
    unused("render.upsample_sharpness", when={"render.num_importance": 0}),
    unused("losses.truncation", when={"losses.sdf": 0, "losses.free_space": 0}),
)

UNIPAD_SOURCES = {
    "unipad-lidar": Sources(CODE, LIDAR, UNUSED),
    "unipad-camera": Sources(CODE, CAMERA, UNUSED),
    "unipad-fusion": Sources(CODE, FUSION, UNUSED),
}
"""By recipe."""
