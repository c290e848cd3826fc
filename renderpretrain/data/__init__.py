"""Scenes and batches, and where they come from."""

from renderpretrain.data.batch import Batch, collate
from renderpretrain.data.folder.fields import SceneFolderError
from renderpretrain.data.folder.inspection import FrameFacts, Needs, faults, inspect_folder, missing
from renderpretrain.data.folder.scene_folder import SceneFolder
from renderpretrain.data.folder.validation import validate_scene_folder
from renderpretrain.data.folder.writing import write_scene_folder
from renderpretrain.data.kept import KeptScenes
from renderpretrain.data.miscalibration import Miscalibrated
from renderpretrain.data.mixed import MixedScenes
from renderpretrain.data.occupancy import label_occupancy
from renderpretrain.data.open import open_data
from renderpretrain.data.scene import Boxes, GroundTruth, OccupancyLabels, Recording, Scene, SceneDataset
from renderpretrain.data.shards.reading import ShardScenes
from renderpretrain.data.synthetic.room import SyntheticRoom
from renderpretrain.data.synthetic.street import SyntheticStreet
from renderpretrain.data.windows import FollowedScenes, SceneWindows

__all__ = [
    "Batch",
    "Boxes",
    "FollowedScenes",
    "FrameFacts",
    "GroundTruth",
    "KeptScenes",
    "Miscalibrated",
    "MixedScenes",
    "Needs",
    "OccupancyLabels",
    "Recording",
    "Scene",
    "SceneDataset",
    "SceneFolder",
    "SceneFolderError",
    "SceneWindows",
    "ShardScenes",
    "SyntheticRoom",
    "SyntheticStreet",
    "collate",
    "faults",
    "inspect_folder",
    "label_occupancy",
    "missing",
    "open_data",
    "validate_scene_folder",
    "write_scene_folder",
]
