"""Two small scene folders that tests spoil."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from scene_folders import write_room, write_street


@pytest.fixture
def street(tmp_path):
    """A folder with two frames of twenty points ahead of one camera, and what its frames.json says."""
    return tmp_path, write_street(tmp_path)


@pytest.fixture
def room(tmp_path):
    """A folder with one posed view and its depth image, and what its frames.json says."""
    return tmp_path, write_room(tmp_path)
