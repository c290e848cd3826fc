"""Sources of UniPAD's numbers."""

from renderpretrain.recipes.sources.listing import CALIBRATION, CYCLE, OURS, WARM_UP, Sources, listed

CODE = "https://github.com/Nightmare-n/UniPAD, 3d24add; configurations in projects/configs/unipad"

_CAMERA, _LIDAR = "uvtr_cam_vs0.1_pretrain.py", "uvtr_lidar_vs0.075_pretrain.py"

_SHARED = CALIBRATION | listed(
    {
        "ours (code: 900 rows, padded to 928 with zeros)": "image_size",
        "code render_head.py:47-57": "render.channels",
        "code render_utils/scene_colliders.py:30-33": "render.near",
        "code render_head.py:160-167": "render.near_radius",
        "code render_head.py:295-405": "render.rays_per_camera render.stride render.sky",
        "ours": "lidar.batch_norm_momentum render.rays_per_sweep losses.inliers",
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
            "unused: backbone convnext": "image.bottleneck",
            f"code {_CAMERA}:62-64": "image.mask_ratio image.patch_size",
            "code uvtr_ssl.py:61-66": "image.depth_bins",
            "code uni3d_viewtrans.py:138-244": "image.depth_range",
            "unused: modality camera": (
                "lidar.voxel_size lidar.mask_ratio lidar.mask_block lidar.channels lidar.neck_blocks"
                " lidar.neck_channels"
            ),
            f"code {_CAMERA}:92-94": "render.far_radius",
            f"code {_CAMERA}:107-117": "render.rgb_blocks",
            f"code {_CAMERA}, 10 per 51.2 m": "losses.depth",
            f"code {_CAMERA}": ("modality sweeps losses.rgb losses.free_space losses.sdf losses.eikonal"),
            "code uvtr_cam_vs0.075_pretrain.py:90": "losses.depth_bins",
            f"code {_CAMERA}, unused there too": "losses.truncation",
        }
    ),
    **listed(
        {
            f"code {_CAMERA}, 12 epochs": "steps",
            f"code {_CAMERA}; 4 GPUs in dist_train_ssl.sh": "batch_size",
            f"code {_CAMERA}:222-231": _SCHEDULE,
            f"code {_CAMERA}": f"schedule clip_norm {WARM_UP}",
            "unused: schedule cosine": CYCLE,
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
                "modality sweeps lidar.voxel_size losses.rgb losses.free_space losses.sdf losses.eikonal"
            ),
            f"code {_LIDAR}:11-18": "point_cloud_range voxel_size",
            f"code {_LIDAR}:58-69": "channels lidar.channels",
            f"code {_LIDAR}:70-79": "lidar.neck_blocks lidar.neck_channels",
            "code mask_sparse_encoder_hd.py:126-144": "lidar.mask_ratio lidar.mask_block",
            "unused: modality lidar": (
                "image.backbone image.weights image.depths image.widths image.bottleneck image.drop_path"
                " image.layer_scale image.frozen_stages image.first_level image.num_levels image.mask_ratio"
                " image.patch_size image.depth_bins image.depth_range losses.depth_bins"
            ),
            "code render_head.py:160-167": "render.far_radius",
            "unused: losses.rgb 0": "render.rgb_blocks",
            f"code {_LIDAR}, 10 per 54 m": "losses.depth",
            f"code {_LIDAR}, unused there too": "losses.truncation",
        }
    ),
    **listed(
        {
            f"code {_LIDAR}, 12 epochs": "steps",
            f"code {_LIDAR}; 4 GPUs in dist_train_ssl.sh": "batch_size",
            f"code {_LIDAR}:250": "optimizer lr weight_decay",
            f"code {_LIDAR}": f"schedule clip_norm {CYCLE}",
            "unused: schedule cyclic": WARM_UP,
            f"ours (code: fp16, {_LIDAR})": "precision",
            "ours": f"{OURS} lr_multipliers",
        },
        "optimization.",
    ),
}

_FROM_CAMERA = ("image.", "optimization.", "render.rgb_blocks", "losses.rgb", "losses.depth_bins")

FUSION = {name: (CAMERA if name.startswith(_FROM_CAMERA) else LIDAR)[name] for name in LIDAR} | {
    "modality": "ours (no released configuration trains both)"
}
"""The numbers of the two others side by side."""

UNIPAD_SOURCES = {
    "unipad-lidar": Sources(CODE, LIDAR),
    "unipad-camera": Sources(CODE, CAMERA),
    "unipad-fusion": Sources(CODE, FUSION),
}
"""By recipe."""
