# UniPAD on data of your own: write a scene folder (here from synthetic streets), check it, pre-train on it,
# take the encoders home.
import sys
import tempfile
from pathlib import Path

from renderpretrain.data import SceneFolder, SyntheticStreet, validate_scene_folder, write_scene_folder
from renderpretrain.recipes import RECIPES
from renderpretrain.training import RunOptions, fit
from renderpretrain.transfer import export_encoders, load_encoders

work = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
street = SyntheticStreet(num_scenes=4, frames_per_street=4, image_size=(128, 224))
write_scene_folder(work / "recording", [street[i] for i in range(4)])  # yours: docs/scene_folder.md
for problem in validate_scene_folder(work / "recording"):
    print("problem:", problem)

config = RECIPES["unipad-lidar"].presets["tiny"]
scenes = SceneFolder(work / "recording", image_size=config.image_size)
recipe = RECIPES["unipad-lidar"].build(config)
optimization = config.optimization.model_copy(update={"steps": 4, "log_every": 1})
# The run folder remembers what it is made of: `renderpretrain render`, `eval` and `export` take it as it is.
result = fit(recipe, scenes, optimization, out=work / "run", options=RunOptions(holdout=1))
for change in result.table:
    print(f"{change.metric}: {change.before:.3f} -> {change.after:.3f}")

export_encoders(work / "run", "safetensors", work / "encoders.safetensors")
encoders = load_encoders(work / "encoders.safetensors")  # where you fine-tune
print("encoders:", ", ".join(encoders), "->", work / "encoders.safetensors")
