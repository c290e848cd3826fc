"""Scenes and batches, and where they come from."""

from renderpretrain.data.folder_schema import SceneFolderError
from renderpretrain.data.folder_validation import validate_scene_folder
from renderpretrain.data.folder_writing import write_scene_folder
from renderpretrain.data.open import open_data
from renderpretrain.data.scene import Batch, Boxes, GroundTruth, Scene, SceneDataset, collate
from renderpretrain.data.scene_folder import SceneFolder
from renderpretrain.data.synthetic_room import SyntheticRoom
from renderpretrain.data.synthetic_street import SyntheticStreet

__all__ = [
    "Batch",
    "Boxes",
    "GroundTruth",
    "Scene",
    "SceneDataset",
    "SceneFolder",
    "SceneFolderError",
    "SyntheticRoom",
    "SyntheticStreet",
    "collate",
    "open_data",
    "validate_scene_folder",
    "write_scene_folder",
]
