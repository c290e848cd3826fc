# %% [markdown]
# # Your own data
#
# From raw files to a pre-trained encoder: write one `frames.json` beside your files, have it checked,
# look at it, train on it. What each field means stands in *Scene folder* of the documentation.
# %%
import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import renderpretrain as rp
from renderpretrain.data import SyntheticStreet, validate_scene_folder

STEPS, FRAMES = 40, 10
OUT = Path(tempfile.mkdtemp())
RECORDING = OUT / "recording"
RECORDING.mkdir()


def show(path):
    """A picture, which a notebook shows where it is the last thing in a cell."""
    with Image.open(path) as picture:
        return picture.copy()


# %% [markdown]
# ## What a car leaves behind
#
# Sweeps as rows of `x, y, z, intensity`, pictures, a calibration, poses. Here a simulator drives; put
# your own files in their place.
# %%
drive = SyntheticStreet(num_scenes=FRAMES, frames_per_street=FRAMES, image_size=(96, 160))
moments = [drive[k] for k in range(FRAMES)]
for k, moment in enumerate(moments):
    sweep = moment.points[:, :4].numpy().astype("<f4")
    sweep.tofile(RECORDING / f"{k:04d}.bin")
    for name, picture in zip(moment.camera_names, moment.images, strict=True):
        pixels = (255 * picture.permute(1, 2, 0)).round().byte().numpy()
        Image.fromarray(pixels).save(RECORDING / f"{k:04d}_{name}.png")

# %% [markdown]
# ## One file that says what they are
#
# Poses map column vectors, `lidar_to_camera` from the LiDAR to a camera that looks along `+z`. On disk
# the centre of the first pixel is (0, 0), in memory (0.5, 0.5): hence the half pixel.
# %%


def camera_entry(moment, k, n):
    """What `frames.json` says of one picture."""
    intrinsics = moment.cameras.intrinsics[n].numpy().copy()
    intrinsics[:2, 2] -= 0.5
    height, width = moment.cameras.image_size
    return {
        "file": f"{k:04d}_{moment.camera_names[n]}.png",
        "width": width,
        "height": height,
        "intrinsics": intrinsics.tolist(),
        "lidar_to_camera": np.linalg.inv(moment.cameras.camera_to_world[n].double().numpy()).tolist(),
    }


def frame_entry(moment, k):
    """What `frames.json` says of one moment."""
    return {
        "frame_id": k,
        "scene": "drive",
        "timestamp_s": 0.5 * k,
        "lidar": {
            "file": f"{k:04d}.bin",
            "columns": ["x", "y", "z", "intensity"],
            "sensor_origin": moment.lidar_origin.tolist(),
            "ego_to_global": moment.world_to_global.tolist(),
        },
        "cameras": {name: camera_entry(moment, k, n) for n, name in enumerate(moment.camera_names)},
    }


table = {"format": "multicam_lidar", "frames": [frame_entry(m, k) for k, m in enumerate(moments)]}
(RECORDING / "frames.json").write_text(json.dumps(table))

# %% [markdown]
# ## Have it checked
#
# Every file is opened, and the usual mistakes are tried on the measurements. Nothing to say is good news.
# %%
problems = validate_scene_folder(RECORDING)
print(f"{len(problems)} problems", *problems, sep="\n")

# %% [markdown]
# A mistake, to see what is said of it: all poses of the cameras the wrong way round, the classic.
# %%
wrong = json.loads(json.dumps(table))
for frame in wrong["frames"]:
    for camera in frame["cameras"].values():
        camera["lidar_to_camera"] = np.linalg.inv(camera["lidar_to_camera"]).tolist()
(RECORDING / "frames.json").write_text(json.dumps(wrong))
for problem in validate_scene_folder(RECORDING)[:4]:
    print(str(problem).replace(str(OUT), ""))
(RECORDING / "frames.json").write_text(json.dumps(table))

# %% [markdown]
# ## Look at it
#
# Points belong on what they were measured on.
# %%
show(rp.verbs.inspect(f"folder:{RECORDING}", frame=2, out=OUT / "seen.png")[0])

# %% [markdown]
# ## Pre-train on it
#
# The last two frames are only scored.
# %%
result = rp.pretrain(
    "unipad-lidar",
    data=f"folder:{RECORDING}",
    holdout=2,
    steps=STEPS,
    out=OUT / "run",
    workers=0,
    set={
        "point_cloud_range": [-25.6, -25.6, -4.0, 25.6, 25.6, 4.8],
        "image_size": [96, 160],
        "rays.per_view": 64,
    },
)
for change in result.table:
    print(f"{change.metric}: {change.before:.3f} -> {change.after:.3f}")

# %%
show(max((OUT / "run" / "pictures").glob("step_*.png")))

# %% [markdown]
# ## Take the encoder home
# %%
print(rp.export(OUT / "run", to="safetensors", out=OUT / "encoders.safetensors").snippet)
