# %% [markdown]
# # Your own encoder
#
# A network that renderpretrain has never heard of is pre-trained and taken home: ten minutes on a laptop,
# no GPU, no data to fetch. The streets are simulated.
# %%
import tempfile
from pathlib import Path

import torch
from PIL import Image
from torch import nn

import renderpretrain as rp
from renderpretrain.training import read_rows
from renderpretrain.viz.plots import Line, Plot, save_plots

STEPS = 60
OUT = Path(tempfile.mkdtemp())


def show(path):
    """A picture, which a notebook shows where it is the last thing in a cell."""
    with Image.open(path) as picture:
        return picture.copy()


# %% [markdown]
# ## The network
#
# Yours: any module from a volume of voxels `(B, 5, Z, Y, X)` to a volume of features. The five channels
# are the means of the points in a voxel: `x, y, z`, intensity and lag.
# %%
class UNet3d(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.down = nn.Sequential(nn.Conv3d(5, width, 3, stride=2, padding=1), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv3d(width, 64, 3, stride=2, padding=1), nn.ReLU())
        self.up = nn.Sequential(nn.Conv3d(64, width, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2))

    def forward(self, voxels):
        fine = self.down(voxels)
        z, y, x = fine.shape[2:]
        return fine + self.up(self.deep(fine))[:, :, :z, :y, :x]


network = UNet3d()

# %% [markdown]
# ## The adapter
#
# It says what the recipe has to know: how many channels come out, and where. A convolution of stride 2
# with padding 1 is centred on every second voxel, from the first on: `stride=2, first=0`.
# %%
encoder = rp.encoders.VolumeEncoder(network, out_channels=32, stride=2, first=0)

# %% [markdown]
# ## Pre-train
#
# UniPAD hides half of the occupied blocks of voxels and renders depth and colour of the whole street from
# what is left. The encoder is tried on a few voxels before anything is written, so that a wrong shape is
# one line and not a lost run.
# %%
result = rp.pretrain(
    "unipad-lidar",
    data="synthetic",
    scenes=16,
    holdout=2,
    steps=STEPS,
    out=OUT / "run",
    encoder=encoder,
    set={
        "point_cloud_range": [-25.6, -25.6, -3.2, 25.6, 25.6, 3.2],
        "encoder.voxel_size": [0.8, 0.8, 0.8],
        "voxel_size": [1.6, 1.6, 1.6],
        "image_size": [64, 96],
        "rays.per_view": 64,
    },
)

# %% [markdown]
# ## Look at it
#
# Loss terms over steps, and the last picture: input, what was hidden, what is rendered, and the error.
# %%
rows = [row for row in read_rows(OUT / "run" / "metrics.jsonl") if "loss" in row]
terms = sorted({name for row in rows for name in row if name.startswith("loss/")})
lines = [Line(name, [row["step"] for row in rows], [row[name] for row in rows]) for name in terms]
show(save_plots(OUT / "curves.png", "loss terms", [Plot("training", "step", lines, log="y")]))

# %%
show(max((OUT / "run" / "pictures").glob("step_*.png")))

# %%
for change in result.table:
    print(f"{change.metric}: {change.before:.3f} -> {change.after:.3f}")

# %% [markdown]
# ## Take it home
#
# One file; where you fine-tune, it goes into a fresh network of yours. An encoder that was handed in as a
# module is handed in again, since no name says how to build it.
# %%
rp.export(OUT / "run", to="safetensors", out=OUT / "encoders.safetensors", encoder=encoder)
home = rp.transfer.load_encoder(OUT / "encoders.safetensors", "point_encoder", into=UNet3d())
print(all(torch.equal(a, b) for a, b in zip(home.parameters(), network.parameters(), strict=True)))
