"""Sources of NS-MAE's numbers."""

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

CODE = "Unified-Pretrain-AD, d2963d1; ns_mae.yaml in configs/nuscenes/det/pretrain"

NS_MAE_SOURCES = Sources(
    CODE,
    CALIBRATION
    | listed(
        {
            "code ns_mae.yaml": "modality",
            "code ns_mae.yaml:3-4": "point_cloud_range lidar.voxel_size",
            "code ns_mae.yaml:3-4, encoder's stride of 8 in the plane": "voxel_size",
            "code ns_mae.yaml:2": "image_size",
            "code ns_mae.yaml:17-24": "sweeps points",
            "code ns_mae.yaml:250": "lidar.mask_ratio",
            "code ns_mae.yaml:233-248": "lidar.channels lidar.out_channels",
            "code masked_sparse_encoder_rend.py:78-102": "lidar.batch_norm_momentum",
            "code ns_mae.yaml:181-196": (
                "image.weights image.depths image.width image.window image.drop_path"
            ),
            "code generalized_lss.py:81-103": "image.neck_channels",
            "code depth_lss_ptr.py:52-60": "image.channels",
            "code ns_mae.py:36-37": "image.mask_ratio image.patch_size",
            "code ns_mae.yaml:223": "image.depth_mask_ratio",
            "code vtransforms/base.py:54-77": "image.depth_bins image.depth_range",
            "code depth_lss_ptr.py:61-86": "image.bev_scale",
            "ours": (
                "render.near render.near_radius render.far_radius render.stride render.sky"
                " render.num_samples losses.ray_depth"
            ),
            "ours (code: 10000, ns_mae.yaml:170)": "losses.rgb",
            "ours (code: 0.01, ns_mae.yaml:172)": "losses.depth",
            "ours (code: 0.01 per 0.2 m, ns_mae.yaml:171)": "losses.bev_depth",
        }
    )
    | listed(
        {
            "code docs/TRAINING.md:8, 50 epochs on 8 GPUs": "steps batch_size",
            "code ns_mae.yaml:298-317": "optimizer lr weight_decay schedule clip_norm warmup_steps",
            "code ns_mae.yaml:298-317, mmcv's defaults": CYCLE,
            "ours (code: fp16, configs/default.yaml:20-22)": "precision",
            "ours": f"{OURS} lr_multipliers",
        },
        "optimization.",
    ),
    (
        UNREFINED,
        *UNSCHEDULED,
        unused(
            "weights depths width window drop_path neck_channels channels mask_ratio patch_size"
            " depth_mask_ratio depth_bins depth_range bev_scale",
            "image.",
            when={"modality": "lidar"},
        ),
        unused("losses.rgb losses.depth calibration.alignment", when={"modality": "lidar"}),
        unused(
            "voxel_size mask_ratio channels out_channels batch_norm_momentum",
            "lidar.",
            when={"modality": "camera"},
        ),
        unused("points image.depth_mask_ratio", when={"modality": "camera"}),
        *(unused("render.rays_per_sweep", when={"modality": sensors}) for sensors in ("camera", "fusion")),
        unused(
            "rays_per_camera rays_per_sweep",
            "render.",
            when={"losses.ray_depth": 0, "calibration.refine": False},
        ),
    ),
)
