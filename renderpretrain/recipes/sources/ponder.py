"""Sources of PonderV2's numbers."""

from renderpretrain.recipes.sources.listing import (
    CALIBRATION,
    CYCLE,
    OURS,
    UNREFINED,
    UNSCHEDULED,
    Sources,
    listed,
    unused,
)

CODE = "https://github.com/OpenGVLab/PonderV2, aad65d6; configurations in configs"

_STREET, _ROOM = "nuscenes/pretrain-*-base.py", "scannet/pretrain-ponder-spunet-v1m1-0-base.py"

_ROOMS = "scannet/pretrain-ponder-ppt-v1m1-0-sc-s3-st-spunet.py"

_SHARED = listed(
    {
        "code spconv_unet_v1m1_base.py:86-278": (
            "encoder.stem_channels encoder.channels encoder.depths encoder.batch_norm_momentum"
        ),
        "code render_utils/fields/sdf_field.py:38-55": "field.sharpness",
        "code render_utils/ray_samplers.py:325-464": "field.upsample_sharpness",
    }
) | listed(
    {
        "code ponder/engines/train.py:178-203": "clip_norm sync_batch_norm",
        "code ponder/utils/scheduler.py:108-143": "cyclic_momentum warmup_steps",
        "ours": f"{OURS} lr_multipliers".replace(" sync_batch_norm", ""),
    },
    "optimization.",
)

_CYCLE = CYCLE.replace(" cyclic_momentum", "")

_UNUSED = (
    *UNSCHEDULED,
    unused("losses.truncation", when={"losses.sdf": 0, "losses.free_space": 0}),
    unused("field.rgb_blocks", when={"losses.rgb": 0, "losses.semantic": 0}),
    unused("field.upsample_sharpness", when={"field.num_importance": 0}),
)

OUTDOOR_SOURCES = Sources(
    CODE,
    _SHARED
    | listed(
        {
            f"code {_STREET}:72-76": "point_cloud_range voxel_size",
            "code ponder/datasets/nuscenes.py:139-175": "image_size",
            "code ponder/datasets/nuscenes.py:107-112": "sweeps points",
            f"code {_STREET}": (
                "encoder.voxel_size losses.rgb losses.free_space losses.sdf losses.eikonal losses.semantic"
            ),
            f"code {_STREET}:22": "mask.ratio mask.block",
            "code ponder/unet3d.py:16-34": "field.channels",
            f"code {_STREET}:37-50": "field.hidden_channels field.sdf_blocks",
            f"code {_STREET}:56-64": "field.num_samples field.num_importance",
            "ours (code: 0.01 of the squeezed box)": "field.near",
            "code ponder/datasets/transform.py:333-348": "rays.per_camera",
            "ours": "rays.per_sweep input_scale losses.inliers",
            f"code {_STREET}:174-178": "rays.near_radius",
            f"code {_STREET}, 10 per 108 m": "losses.depth",
        }
    )
    | listed(
        {
            f"code {_STREET}, 24 epochs on 4 GPUs": "steps batch_size",
            f"code {_STREET}": f"optimizer lr weight_decay schedule {_CYCLE}",
            f"ours (code: fp16, {_STREET})": "precision",
        },
        "optimization.",
    ),
    (*_UNUSED, unused("embeddings losses.temperature", when={"losses.semantic": 0})),
    {
        "paper-colour": {
            "losses.rgb": "code nuscenes/pretrain-*-base-color.py",
            "field.rgb_blocks": "code nuscenes/pretrain-*-base-color.py",
        },
        "paper-semantic": {
            "losses.semantic": "code nuscenes/pretrain-*-base-semantic.py",
            "losses.temperature": "code render_utils/models/base_surface_model.py:102-211",
            "field.rgb_blocks": "code nuscenes/pretrain-*-base-semantic.py",
            "embeddings": "ours (code: CLIP's text encoder, ponder_indoor_base.py:85-118)",
        },
    },
)

INDOOR_SOURCES = Sources(
    CODE,
    _SHARED
    | CALIBRATION
    | listed(
        {
            "ours (code: CLIP's text encoder, ponder_indoor_base.py:85-118)": "embeddings",
            "code render_utils/models/base_surface_model.py:102-211": "losses.temperature",
            f"code {_ROOM}": "domains",
            f"code {_ROOM}:277,299": "points",
            "code ponder_indoor_base.py:681-692, left out of the sum": "losses.alignment",
            "ours (code: every scene's own cube, ponder_indoor_base.py:344-444)": "point_cloud_range",
            f"code {_ROOM}:95": "voxel_size",
            "ours": "image_size losses.inliers",
            "ours (rooms have one)": "sweeps",
            f"code {_ROOM}:213-217": "drop_ratio",
            f"code {_ROOM}:205-301": "encoder.voxel_size",
            "code ponder/unet3d.py:562-671": "neck_channels",
            f"code {_ROOM}:26-30": "field.channels",
            f"code {_ROOM}:35-57": (
                "field.hidden_channels field.geometry_channels field.sdf_blocks field.rgb_blocks"
            ),
            f"code {_ROOM}:71-79": "field.num_samples field.num_importance",
            "code render_utils/scene_colliders.py:46-85, per side": "field.near",
            "code ponder_indoor_base.py:548-551": "rays_per_view",
            f"code {_ROOM}:80-91, per side": ("losses.depth losses.sdf losses.free_space losses.truncation"),
            f"code {_ROOM}:80-91": "losses.rgb losses.eikonal losses.semantic",
        }
    )
    | listed(
        {
            f"code {_ROOM}:155-170": (f"steps batch_size optimizer lr weight_decay schedule {_CYCLE}"),
            f"ours (code: fp16, {_ROOM})": "precision",
        },
        "optimization.",
    ),
    (
        *_UNUSED,
        UNREFINED,
        unused("context_channels", when={"domains": 1}),
        unused("embeddings losses.temperature", when={"losses.semantic": 0, "losses.alignment": 0}),
    ),
    {
        "paper-ppt": {
            "domains": f"code {_ROOMS}: Structured3D, ScanNet, S3DIS as 4:2:1",
            "context_channels": "code spconv_unet_v1m3_pdnorm.py:23-72",
            **listed({f"code {_ROOMS}": "steps lr precision"}, "optimization."),
        },
    },
)
