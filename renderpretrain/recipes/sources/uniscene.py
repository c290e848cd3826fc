"""Sources of UniScene's numbers."""

from renderpretrain.recipes.sources.listing import OURS, UNSCHEDULED, WARM_UP, Sources, listed, unused

CODE = "https://github.com/chaytonmin/UniScene, 9e1e95a; occ_bev_sweep2.py in projects/configs/bevformer"

UNISCENE_SOURCES = Sources(
    CODE,
    listed(
        {
            "code occ_bev_sweep2.py": "lifter",
            "code occ_bev_sweep2.py:11": "point_cloud_range voxel_size",
            "code bevformer_occ_head.py:85-87": "channels",
            "ours (code: 900 rows, padded to 928 with zeros)": "image_size",
            "ours (code: FCOS3D's R101-DCN, occ_bev_sweep2.py:240)": "image.weights",
            "code occ_bev_sweep2.py:44-55": (
                "image.depths image.width image.bottleneck image.frozen_stages image.frozen_norms"
                " image.first_level"
            ),
            "code occ_bev_sweep2.py:56-63": "image.num_levels",
            "code occ_bev_sweep2.py:97-126": "attention.num_layers attention.hidden_channels",
            "code spatial_cross_attention.py:350-373": "attention.num_heads attention.num_points",
            "code modules/encoder.py:65-75": "attention.num_heights",
            "code occ_bev_sweep2.py:156-167": "attention.num_cameras",
            "code nuscenes_occ.py:54-103": "attention.history attention.history_drop",
            "code bevformer_occ.py:52-54": "grid_mask.probability grid_mask.ratio",
            "code grid_mask.py:84-124": "grid_mask.smallest",
            "code docs/prepare_dataset.md": "labels.reach",
            "ours": (
                "sweeps labels.near render.num_samples render.near render.length"
                " render.near_radius render.far_radius render.stride render.sky losses.depth"
            ),
            "code transformer_occ.py:110-136": "decoder.channels decoder.hidden_channels",
            "code occ_bev_sweep2.py:74-79": "losses.occupancy losses.gamma losses.alpha",
        }
    )
    | listed(
        {
            "code occ_bev_sweep2.py:219-239, 24 epochs": "steps",
            "code occ_bev_sweep2.py:189; 8 GPUs in docs/getting_started.md": "batch_size",
            "code occ_bev_sweep2.py:219-239": (
                f"optimizer lr weight_decay schedule clip_norm lr_multipliers precision {WARM_UP}"
            ),
            "ours": OURS,
        },
        "optimization.",
    ),
    (
        *UNSCHEDULED,
        unused("splat.depth_bins splat.depth_range", when={"lifter": "bevformer"}),
        unused(
            "num_layers num_heads num_heights num_points hidden_channels num_cameras history history_drop",
            "attention.",
            when={"lifter": "lss"},
        ),
        unused("attention.history_drop", when={"attention.history": 0}),
        unused("grid_mask.ratio grid_mask.smallest", when={"grid_mask.probability": 0}),
        unused("render.rays_per_camera", when={"losses.depth": 0}),
    ),
)
