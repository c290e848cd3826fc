"""What recipes share of their sensors."""

import pytest
import torch
from variants import VARIANTS, batch_of, build, scenes_for

from renderpretrain.recipes import RECIPES
from renderpretrain.recipes.augment import AugmentConfig, GroundedAugmentConfig, augmentation_of
from renderpretrain.recipes.images import channels_last
from renderpretrain.runs.entries import saved_settings


def test_channels_come_last_in_memory_and_nowhere_else():
    images = torch.rand(2, 3, 3, 8, 12)
    moved = channels_last(images)
    assert torch.equal(moved, images)
    flat = moved.flatten(0, 1)
    assert flat.data_ptr() == moved.data_ptr()  # no copy undoes it
    assert flat.is_contiguous(memory_format=torch.channels_last)


def test_what_settings_say_of_changes_is_what_scenes_get():
    paper = RECIPES["unipad-lidar"].presets["paper"]
    world = augmentation_of(paper).world
    assert (world.turn, world.scale, world.shift) == (22.5, (0.95, 1.05), 0.0)
    assert all(augmentation_of(entry.presets["tiny"]) is None for entry in RECIPES.values())
    with pytest.raises(ValueError, match="expected none, for the labels lie on a grid that stays"):
        GroundedAugmentConfig(turn=10.0)
    with pytest.raises(ValueError, match="scale: expected the smaller factor first, got 2"):
        AugmentConfig(scale=(2.0, 1.0))


def test_runs_of_before_learn_from_scenes_as_they_are():
    entry, paper = RECIPES["unipad-lidar"], RECIPES["unipad-lidar"].presets["paper"]
    before = paper.model_dump(mode="json", exclude={"augment"})
    assert entry.config.model_validate(saved_settings(entry, before)).augment == AugmentConfig()
    kept = saved_settings(entry, paper.model_dump(mode="json"))
    assert entry.config.model_validate(kept) == paper and saved_settings(entry, {}) == {}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_recipe_learns_from_changed_scenes(variant):
    changes = {"zoom": (0.8, 1.3), "mirror_images": 0.5, "hue": 10.0, "contrast": 0.3, "without_cameras": 0.3}
    if not variant.startswith("uniscene"):
        changes |= {"turn": 30.0, "mirror_x": 1.0, "scale": (0.9, 1.1), "shift": 0.2}
    augmentation = AugmentConfig(**changes).build()
    scenes = [augmentation(scene, k) for k, scene in enumerate(scenes_for(variant))]
    recipe = build(variant).train()
    loss = sum(value for value in recipe(batch_of(scenes)).values())
    loss.backward()
    gradients = [p.grad for p in recipe.parameters() if p.grad is not None]
    assert torch.isfinite(loss) and gradients and all(g.isfinite().all() for g in gradients)
