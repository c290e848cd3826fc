"""The run that reports are tested on; also makes ``browser`` importable by the tests beside it."""

import shutil
import sys
from pathlib import Path

import pytest

from renderpretrain.cli import main

sys.path.append(str(Path(__file__).parent))

SMALL = [
    "--set", "image_size=[32, 64]",
    "--set", "point_cloud_range=[-12.8, -12.8, -4.0, 12.8, 12.8, 4.8]",
    "--set", "rays.per_view=8",
    "--set", "sampler.num_samples=12", "--set", "sampler.num_importance=4",
    "--set", "field.sdf_blocks=1", "--set", "field.rgb_blocks=1",
    "--set", "optimization.warmup_steps=0",
    "--scenes", "3", "--holdout", "1", "--device", "cpu",
]  # fmt: skip
"""Two dozen metres and eight rays a camera: enough to go through every line."""


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A finished run of two steps, as the command line leaves it; nobody writes into it."""
    out = tmp_path_factory.mktemp("runs") / "street"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        # matplotlib would take as long as the training, for a picture that no report shows.
        patch.setattr("renderpretrain.training.run.save_health_curves", lambda path, *_, **__: path)
        main(["pretrain", "unipad-lidar", "--out", str(out), *SMALL, "--steps", "2"])
    assert not end.value.code
    return out


@pytest.fixture
def run(trained, tmp_path):
    """A copy of it to write into."""
    return shutil.copytree(trained, tmp_path / "street")
