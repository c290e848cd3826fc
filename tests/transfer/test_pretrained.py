"""Runs and our own files: what is kept, what comes back, what is refused."""

import json
from functools import cache

import pytest
import torch
import yaml
from networks import second_encoder, shaken, unet
from safetensors import safe_open
from torch import nn
from torch.testing import assert_close

import renderpretrain as rp
from renderpretrain.encoders import (
    FPN,
    LSSFPN,
    ConvNeXt,
    ResNet,
    SparseEncoder,
    SparseTensor,
    SparseUNet,
    SwinTransformer,
    VolumeNeck,
    VoxelBackBone8x,
)
from renderpretrain.recipes import RECIPES
from renderpretrain.runs import save_checkpoint
from renderpretrain.storage.safetensors_file import pack_tensors
from renderpretrain.transfer import (
    ExportOptions,
    ImportOptions,
    Pretrained,
    export_encoders,
    from_modules,
    import_encoders,
    initialize_encoders,
    load_encoder,
    load_encoders,
    prepare_export,
    read_pretrained,
)
from renderpretrain.transfer.architecture import build, describe
from renderpretrain.transfer.hosts.safetensors import FORMAT

KINDS = {
    "sparse": second_encoder,
    "openpcdet": lambda: VoxelBackBone8x(4),
    "unet": unet,
    "prompted": lambda: SparseUNet(
        4, channels=(8, 12, 12, 8), depths=(1, 2, 1, 1), stem_channels=6, prompt=(3, 16)
    ),
    "resnet": lambda: ResNet((1, 2, 1, 1), bottleneck=True, width=8, stride_first=True, out_indices=(1, 3)),
    "convnext": lambda: ConvNeXt((1, 1, 2, 1), (8, 16, 24, 32), out_indices=(2, 3)),
    "swin": lambda: SwinTransformer((2, 2, 2, 2), 32, window=5, out_indices=(1, 3), mask_token=True),
    "fpn": lambda: FPN((8, 16, 24), 12, start_level=1, num_outs=4),
    "fpn-extra": lambda: FPN((8, 16, 24), 12, num_outs=5, extra_convs=True),
    "lssfpn": lambda: LSSFPN((8, 16, 32), 12),
    "lssfpn-uneven": lambda: LSSFPN((8, 16, 24), 12),
    "neck": lambda: VolumeNeck(8, 12, channels=(8, 16), strides=(1, 2), num_blocks=1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_is_built_again_from_what_describes_it(kind):
    module = KINDS[kind]()
    spec = json.loads(json.dumps(describe(module)))
    again = build(spec)
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in module.state_dict().items()
    }
    assert describe(again) == spec
    for a, b in zip(module.modules(), again.modules(), strict=True):
        for name in ("stride", "padding", "eps", "momentum", "spec", "out_indices", "in_channels"):
            assert getattr(a, name, None) == getattr(b, name, None)


def run_folder(path, recipe="unipad-lidar", step=3, **changes):
    """A run as training leaves it, with weights nobody trained; the model, too."""
    config = RECIPES[recipe].presets["tiny"].model_dump(mode="json") | changes
    model = shaken(RECIPES[recipe].build(RECIPES[recipe].config.model_validate(config)))
    (path / "checkpoints").mkdir(parents=True)
    job = {"recipe": recipe, "preset": "tiny", "data": "synthetic", "config": config}
    (path / "config.yaml").write_text(yaml.safe_dump(job))
    (path / "environment.json").write_text(json.dumps({"commit": "abc123"}))
    save_checkpoint(path / "checkpoints", step, {"step": step, "model": model.state_dict()})
    return model


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """A function: a recipe's run folder and its model, made once."""

    @cache
    def made(recipe):
        path = tmp_path_factory.mktemp(recipe)
        return path, run_folder(path, recipe)

    return made


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipes_encoders_come_out_of_a_run_and_out_of_our_file(recipe, run_of, tmp_path):
    run, model = run_of(recipe)
    export_encoders(run, "safetensors", tmp_path / "e.safetensors")
    for source in (run, tmp_path / "e.safetensors"):
        encoders = load_encoders(source)
        assert list(encoders) == list(model.encoders())
        for name, module in model.encoders().items():
            mine, theirs = encoders[name].state_dict(), module.state_dict()
            assert list(mine) == list(theirs)
            assert all(torch.equal(mine[k], theirs[k]) for k in theirs)


PLACES = {
    "unipad-lidar": {"mmdet3d-0.17": {"point_encoder", "point_neck"}, "bevfusion": {"point_encoder"}},
    "unipad-camera": {"mmdet3d": {"image_backbone", "image_neck"}, "timm": {"image_backbone"}},
    "unipad-fusion": {"mmdet3d-0.17": {"point_encoder", "point_neck", "image_backbone", "image_neck"}},
    "ponder-outdoor": {"pointcept": {"point_encoder"}},
    "ponder-indoor": {"pointcept": {"point_encoder"}},
    "ns-mae": {
        "bevfusion": {"point_encoder", "image_backbone", "image_neck", "lifter"},
        "mmdet3d": {"point_encoder", "image_backbone", "image_neck"},
    },
    "uniscene": {
        "mmdet3d-0.17": {"image_backbone", "image_neck", "lifter"},
        "torchvision": {"image_backbone"},
    },
}


@pytest.mark.parametrize("recipe", PLACES)
def test_every_recipe_has_hosts_that_compute_what_it_computes(recipe, run_of):
    pretrained = read_pretrained(run_of(recipe)[0])
    for host, names in PLACES[recipe].items():
        report = prepare_export(pretrained, host, ExportOptions(verify=True, min_match=0.8)).report
        assert {part.name for part in report.parts} == names
        for part in report.parts:
            assert part.name == "lifter" or part.verified < 1e-4


@pytest.mark.parametrize(
    ("recipe", "host", "source", "part"),
    [("uniscene", "mmdet3d-0.17", "uniscene", "lifter"), ("ns-mae", "bevfusion", "nsmae", "lifter")],
)
def test_parts_that_only_a_recipe_can_build_come_back_with_it(recipe, host, source, part, tmp_path):
    """Grids are no weights: those in a file are passed over, and the recipe brings its own."""
    model = run_folder(tmp_path / "run", recipe)
    done = export_encoders(tmp_path / "run", host, tmp_path / "e.pth", ExportOptions(min_match=0.8))
    state = torch.load(tmp_path / "e.pth", weights_only=True)["state_dict"]
    assert not any(key.endswith((".dx", ".bx", ".nx", ".frustum")) for key in state)
    torch.save({"state_dict": {**state, "encoders.camera.vtransform.dx": torch.ones(3)}}, tmp_path / "f.pth")
    options = ImportOptions(recipe=recipe, preset="tiny")
    import_encoders(tmp_path / "f.pth", source, tmp_path / "ours.safetensors", options)
    back = load_encoders(tmp_path / "ours.safetensors")
    assert list(back) and set(back) == {p.name for p in done.report.parts}
    for name, module in model.encoders().items():
        unused = next(p.unused for p in done.report.parts if p.name == name)
        for key, value in module.state_dict().items():
            assert key in unused or torch.equal(back[name].state_dict()[key], value)
    assert part in back


def test_the_header_says_what_a_stranger_needs(tmp_path):
    run_folder(tmp_path / "run")
    export_encoders(tmp_path / "run", "safetensors", tmp_path / "e.safetensors")
    with safe_open(tmp_path / "e.safetensors", "pt") as file:
        header = file.metadata()
        keys = list(file.keys())
    assert (header["layout"], json.loads(header["axes"])["point_encoder"]) == ("KRSC", "zyx")
    said = {k: json.loads(header[k]) for k in ("recipe", "preset", "data", "commit", "step")}
    assert said == {
        "recipe": "unipad-lidar",
        "preset": "tiny",
        "data": "synthetic",
        "commit": "abc123",
        "step": 3,
    }
    assert json.loads(header["config"])["encoder"]["voxel_size"] == [0.4, 0.4, 0.4]
    assert {key.split(".")[0] for key in keys} == {"point_encoder", "point_neck"}


def test_one_encoder_is_loaded_by_name(tmp_path):
    model = run_folder(tmp_path / "run")
    encoder = load_encoder(tmp_path / "run", "point_neck")
    volume = torch.randn(1, 32, 3, 8, 8)
    assert_close(encoder.eval()(volume), model.lidar.neck.eval()(volume), rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"got 'image_backbone'$"):
        load_encoder(tmp_path / "run", "image_backbone")


def test_without_a_name_it_is_the_encoder_that_reads_the_sensor(run_of):
    encoder = rp.load_encoder(run_of("unipad-lidar")[0])
    assert isinstance(encoder, SparseEncoder) and not encoder.training
    grid = rp.VoxelGrid((0, 0, 0, 25.6, 25.6, 6.4), (0.4, 0.4, 0.4))
    voxels = SparseTensor(
        torch.randn(2, 5), torch.tensor([[0, 3, 9, 9], [0, 4, 40, 50]]).int(), grid.shape, 1
    )
    with torch.no_grad():
        volume, levels = encoder(voxels), encoder.levels(voxels)
    assert volume.shape[1] == encoder.out_channels
    assert volume.shape[2:] == tuple(-(-n // s) for n, s in zip(grid.shape, encoder.strides, strict=True))
    assert [level.features.shape[1] for level in levels] == list(encoder.level_channels)
    assert len(encoder.level_strides) == len(levels) and encoder.level_strides[-1] == encoder.strides
    with pytest.raises(
        ValueError, match=r"part: expected one of point_encoder, point_neck, image_.* got None"
    ):
        rp.load_encoder(run_of("unipad-fusion")[0])


@pytest.mark.parametrize("kind", ["resnet", "convnext", "swin"])
def test_an_image_encoder_says_how_wide_and_how_coarse_its_maps_are(kind):
    network, images = KINDS[kind](), torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps, levels = network(images), network.levels(images)
    assert network.out_channels == tuple(m.shape[1] for m in maps)
    assert network.strides == tuple(64 // m.shape[2] for m in maps)
    assert network.level_strides == tuple(64 // m.shape[2] for m in levels)


def test_a_network_on_volumes_says_how_coarse_its_levels_are():
    neck, net = KINDS["neck"](), unet()
    assert neck.level_strides == ((1, 1, 1), (1, 2, 2), (1, 1, 1)) and neck.strides == (1, 1, 1)
    assert net.strides == (1, 1, 1) and net.level_strides == tuple((2**k,) * 3 for k in range(5))
    assert VoxelBackBone8x(4).level_strides[-2:] == ((8, 8, 8), (16, 8, 8))


def test_weights_for_training_need_not_exist_any_more(tmp_path):
    """A run that began with a file of image weights and froze stages is read without that file."""
    image = {"weights": "/gone.pth", "frozen_stages": 1}
    config = RECIPES["unipad-camera"].presets["tiny"].model_dump(mode="json")
    run_folder(tmp_path, "unipad-camera")
    saved = yaml.safe_load((tmp_path / "config.yaml").read_text())
    saved["config"]["image"] = {**config["image"], **image}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(saved))
    assert set(load_encoders(tmp_path)) == {"image_backbone", "image_neck"}


def test_a_checkpoint_of_another_recipe_is_named_with_both_shapes(tmp_path):
    run_folder(tmp_path / "a")
    run_folder(tmp_path / "b", "ponder-outdoor")
    (tmp_path / "a" / "checkpoints" / "step_000003.pt").replace(
        tmp_path / "b" / "checkpoints" / "step_000003.pt"
    )
    with pytest.raises(
        ValueError, match=r"not a checkpoint of ponder-outdoor: \S+: expected \(.*\), got nothing"
    ):
        read_pretrained(tmp_path / "b")


def test_folders_and_files_that_are_none_of_ours_are_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"expected a run folder with config\.yaml, found none"):
        read_pretrained(tmp_path)
    with pytest.raises(ValueError, match="expected a checkpoint, found no file"):
        read_pretrained(tmp_path / "absent.safetensors")
    torch.save({"w": torch.ones(2)}, tmp_path / "foreign.pth")
    with pytest.raises(ValueError, match="another framework's checkpoint"):
        read_pretrained(tmp_path / "foreign.pth")
    (tmp_path / "config.yaml").write_text("recipe: uniped\nconfig: {}\n")
    with pytest.raises(ValueError, match="recipe: expected one of unipad-lidar"):
        read_pretrained(tmp_path)
    (tmp_path / "config.yaml").write_text("recipe: unipad-lidar\nconfig: {}\n")
    with pytest.raises(ValueError, match="expected a checkpoint in"):
        read_pretrained(tmp_path)


def test_a_recipe_begins_with_what_a_file_has(tmp_path):
    model = run_folder(tmp_path / "run")
    other = RECIPES["unipad-lidar"].build(RECIPES["unipad-lidar"].presets["tiny"])
    only = Pretrained({"point_encoder": read_pretrained(tmp_path / "run").encoders["point_encoder"]})
    export_encoders(only, "safetensors", tmp_path / "e.safetensors")
    lines = initialize_encoders(other.encoders(), tmp_path / "e.safetensors")
    assert lines[1] == "point_neck: anew" and lines[0].startswith("point_encoder: 54 of 54 tensors from")
    assert torch.equal(
        other.lidar.encoder.state_dict()["conv_out.0.weight"],
        model.lidar.encoder.state_dict()["conv_out.0.weight"],
    )
    export_encoders(
        from_modules({"point_encoder": second_encoder()}),
        "safetensors",
        tmp_path / "f.safetensors",
    )
    before = other.lidar.encoder.conv_input[0].weight.clone()
    with pytest.raises(ValueError, match=r"point_encoder: \S+: expected \(.*\), got"):
        initialize_encoders(other.encoders(), tmp_path / "f.safetensors")
    assert torch.equal(before, other.lidar.encoder.conv_input[0].weight)
    with pytest.raises(ValueError, match=r"point_encoder \(a SparseUNet, here a SparseEncoder\): conv_input"):
        export_encoders(from_modules({"point_encoder": unet()}), "safetensors", tmp_path / "g.safetensors")
        initialize_encoders(other.encoders(), tmp_path / "g.safetensors")


@pytest.mark.parametrize("recipe", ["ponder-outdoor", "ponder-indoor"])
def test_one_encoder_of_a_kind_needs_no_name(recipe, tmp_path):
    """A U-Net that came from Pointcept without a recipe begins any recipe that has one."""
    config = RECIPES[recipe].presets["tiny"]
    theirs, ours = (RECIPES[recipe].build(config).encoders() for _ in range(2))
    encoder = next(module for module in theirs.values() if isinstance(module, SparseUNet))
    path = tmp_path / "e.safetensors"
    export_encoders(from_modules({"taken_from_elsewhere": shaken(encoder)}), "safetensors", path)
    lines = initialize_encoders(ours, path)
    (name,) = [name for name, module in ours.items() if isinstance(module, SparseUNet)]
    assert any(line.startswith(f"{name}: ") and line.endswith(f"tensors from {path}") for line in lines)
    assert all(torch.equal(v, encoder.state_dict()[k]) for k, v in ours[name].state_dict().items())
    twice = {"a": encoder, "b": encoder}
    export_encoders(from_modules(twice), "safetensors", path)
    with pytest.raises(ValueError, match=f"expected one of .*{name}.*, got a, b; import with --recipe"):
        initialize_encoders(ours, path)


@pytest.mark.parametrize(
    ("encoders", "said"),
    [
        ({}, "encoders: expected some by name, got {}"),
        ([1], "encoders: expected some by name, got [1]"),
        ({"a": {}}, "a: expected the kind of an encoder, got {}"),
        ({"a": [1]}, "a: expected the kind of an encoder, got [1]"),
        ({"a": "x"}, "a: expected the kind of an encoder, got x"),
        ({"a": {"kind": ["SparseEncoder"]}}, "a: expected the kind of an encoder"),
        ({"a": {"kind": "SparseEncoder"}}, ""),
        ({"a": {"kind": "SparseEncoder", "in_channels": 4}}, "a: conv_input.0.weight: expected "),
        ({"a": {"kind": "VoxelBackBone8x", "in_channels": -4}}, ""),
    ],
)
def test_a_damaged_header_names_the_file(encoders, said, tmp_path):
    path = tmp_path / "e.safetensors"
    header = {"format": FORMAT, "fresh": "{}", "encoders": json.dumps(encoders)}
    path.write_bytes(pack_tensors({"a.w": torch.ones(2)}, header))
    for to, out in (("safetensors", "out.safetensors"), ("mmdet3d", "out.pth")):
        with pytest.raises(ValueError) as error:
            export_encoders(path, to, tmp_path / out)
        assert str(error.value).startswith(f"{path}: its header is damaged ({said}")
        assert not (tmp_path / out).exists()


def test_a_header_without_the_step_still_warns_of_masked_statistics():
    pretrained = from_modules({"point_encoder": second_encoder()}, {"statistics": "masked"})
    columns, note = prepare_export(pretrained, "safetensors", ExportOptions()).report.notes
    assert columns.startswith("a voxel is the mean of its points' x, y, z, intensity in 0 to 1")
    assert note.startswith("the run stopped at step (unknown): its batch norms' running statistics")


class TwoLayers(nn.Module):
    """A network of somebody's own."""

    def __init__(self, width):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))


def test_modules_of_ones_own_travel_as_their_weights(tmp_path):
    path, mine = tmp_path / "mine.safetensors", {"points": shaken(TwoLayers(4)), "image": nn.Conv2d(3, 2, 1)}
    done = export_encoders(from_modules(mine), "safetensors", path)
    assert done.snippet.splitlines()[1:] == [
        f"points = load_encoder('{path}', 'points', into=...)  # a {__name__}.TwoLayers of yours",
        f"image = load_encoder('{path}', 'image', into=...)  # a torch.nn.modules.conv.Conv2d of yours",
    ]
    fresh = TwoLayers(4)
    assert load_encoder(path, "points", into=fresh) is fresh
    others = {"points": TwoLayers(4), "image": nn.Conv2d(3, 2, 1), "more": nn.Linear(1, 1)}
    assert initialize_encoders(others, path)[2] == "more: anew"
    for theirs in (fresh, others["points"]):
        assert all(torch.equal(v, mine["points"].state_dict()[k]) for k, v in theirs.state_dict().items())
    with pytest.raises(ValueError, match=r"points: net.0.weight: expected \(5, 3\), got \(4, 3\)$"):
        load_encoder(path, "points", into=TwoLayers(5))
    with pytest.raises(
        ValueError, match=r"^image: a torch.nn.modules.conv.Conv2d is .*load_encoder\(path, into="
    ):
        load_encoder(path, "image")


def test_a_class_of_the_same_name_is_not_taken_for_ours(tmp_path):
    theirs = type("ResNet", (TwoLayers,), {"__module__": "their.library"})(4)
    export_encoders(from_modules({"e": theirs}), "safetensors", tmp_path / "e.safetensors")
    assert read_pretrained(tmp_path / "e.safetensors").encoders["e"].kind == "their.library.ResNet"
    load_encoder(tmp_path / "e.safetensors", into=TwoLayers(4))


def test_what_no_file_can_hold_is_named():
    class WithState(nn.Linear):
        def get_extra_state(self):
            return {"a": 1}

        def set_extra_state(self, state):
            pass

    for modules, said in (
        ({"a.b": nn.Linear(1, 1)}, "modules: expected names without dots, got 'a.b'"),
        ({"a": nn.ReLU()}, "a: expected a module with weights, got a ReLU without"),
        ({"a": WithState(1, 1)}, "a._extra_state: expected a dense tensor in memory, got a dict"),
        (
            {"a": nn.Linear(1, 1, device="meta")},
            "a.weight: expected a dense tensor in memory, got one without",
        ),
    ):
        with pytest.raises(ValueError) as error:
            from_modules(modules)
        assert str(error.value).startswith(said)
    odd = nn.Linear(1, 1)
    odd.register_buffer("b", torch.ones(2, dtype=torch.complex128))
    with pytest.raises(ValueError, match="expected tensors that a safetensors file can hold"):
        prepare_export(from_modules({"a": odd}), "safetensors", ExportOptions())


def test_printing_shows_no_numbers(tmp_path):
    pretrained = from_modules({"point_encoder": second_encoder()})
    done = export_encoders(pretrained, "mmdet3d", tmp_path / "e.pth")
    brought = import_encoders(tmp_path / "e.pth", "mmdet3d")
    for shown in (pretrained, pretrained.encoders["point_encoder"], done, brought):
        assert len(repr(shown)) < 3000 and "tensor(" not in repr(shown) and "SparseEncoder" in repr(shown)


@pytest.mark.parametrize("to", ["safetensors", "mmdet3d", "openpcdet", "timm"])
def test_what_is_exported_twice_is_the_same_file(to):
    pretrained = from_modules(
        {"e": shaken(ResNet((1, 1, 1, 1), width=8)) if to == "timm" else second_encoder()}, {"recipe": "x"}
    )
    options = ExportOptions(min_match=0)
    first, second = (prepare_export(pretrained, to, options, plain=to == "timm").content for _ in range(2))
    assert first == second


def test_weights_that_are_no_numbers_do_not_leave(tmp_path):
    model = run_folder(tmp_path / "run")
    with torch.no_grad():
        model.lidar.encoder.conv_input[0].weight[0, 0, 0, 0] = torch.nan
    save_checkpoint(tmp_path / "run" / "checkpoints", 4, {"step": 4, "model": model.state_dict()})
    said = r"point_encoder: conv_input.0.weight: \d+ of \d+ numbers are NaN or infinite; "
    with pytest.raises(ValueError, match=rf"step_000004.pt: {said}the run diverged"):
        load_encoders(tmp_path / "run")
    for to, out in (("safetensors", "e.safetensors"), ("mmdet3d-0.17", "e.pth")):
        for source in (tmp_path / "run", from_modules(model.encoders())):
            with pytest.raises(ValueError, match=said):
                export_encoders(source, to, tmp_path / out)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_one_flipped_bit_of_our_file_is_noticed(tmp_path, one_flipped_bit):
    path = tmp_path / "e.safetensors"
    export_encoders(from_modules({"e": nn.Linear(40, 40)}), "safetensors", path)
    weight = read_pretrained(path).encoders["e"].tensors["weight"]
    for _ in one_flipped_bit(path, first=3, every=41):
        with pytest.raises(ValueError, match=f"^{path}: "):
            read_pretrained(path)
        with pytest.raises(ValueError, match=f"^{path}: "):
            initialize_encoders({"e": nn.Linear(40, 40)}, path)
    assert torch.equal(read_pretrained(path).encoders["e"].tensors["weight"], weight)
