"""What the report counts, what is refused, and what --verify finds."""

import io
import json

import pytest
import torch
from networks import second_encoder, shaken, unet, unipad_encoder
from rich.console import Console
from safetensors.torch import load_file

from renderpretrain.encoders import ResNet, SparseEncoder, SwinTransformer
from renderpretrain.recipes import RECIPES
from renderpretrain.transfer import (
    HOSTS,
    ExportOptions,
    TransferReport,
    export_encoders,
    from_modules,
    prepare_export,
    print_report,
)
from renderpretrain.transfer.exporting import serialize
from renderpretrain.transfer.layouts import Layout, convert_kernels
from renderpretrain.transfer.verify import TOLERANCE, read_as_host, verify_part

VERIFIED = ExportOptions(verify=True)


@pytest.fixture(scope="module")
def second():
    torch.manual_seed(1)
    return from_modules({"point_encoder": second_encoder()})


@pytest.fixture(scope="module")
def unipad():
    torch.manual_seed(2)
    return from_modules({"point_encoder": unipad_encoder()})


def host_file(path, host, tensors):
    path.write_bytes(serialize(tensors, HOSTS[host]))
    return path


def tensors_of(pretrained, host):
    return read_as_host(prepare_export(pretrained, host, ExportOptions(min_match=0)).content, HOSTS[host])


def refused(tmp_path, pretrained, to, **options):
    """The one line of a refused export; what stood at the place of the file still does."""
    out = tmp_path / "out.pth"
    out.write_text("precious")
    with pytest.raises(ValueError) as error:
        export_encoders(pretrained, to, out, ExportOptions(**options))
    assert out.read_text() == "precious"
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".partial"] == []
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_whole_encoder_is_matched_whole(second):
    done = prepare_export(second, "openpcdet", VERIFIED)
    (part,) = done.report.parts
    assert (len(part.matched), len(part.reshaped), len(part.added)) == (126, 0, 16)
    assert not part.missing and not part.unexpected and not part.unused
    assert done.report.share == 1.0
    assert part.verified <= TOLERANCE
    assert all(key.endswith(("conv1.bias", "conv2.bias")) for key in part.added)
    assert part.norm.ours == part.norm.host == (1e-3, 0.01)


def test_what_does_not_fit_is_counted_and_left_out(unipad):
    """UniPAD's last convolution has one cell, OpenPCDet's three in height: 52 of 2700 thousand numbers."""
    done = prepare_export(unipad, "openpcdet", VERIFIED)
    (part,) = done.report.parts
    assert {k.split(".")[1] for k in part.missing} == {k.split(".")[0] for k in part.unused} == {"conv_out"}
    last = 128 * 3 * 128 + 4 * 128
    total = sum(v.numel() for k, v in tensors_of(unipad, "openpcdet").items() if "tracked" not in k) + last
    assert done.report.share == pytest.approx(1 - last / total)
    assert 0.98 < done.report.share < 0.985
    assert part.verified <= TOLERANCE
    assert not any("conv_out" in key for key in tensors_of(unipad, "openpcdet"))


@pytest.mark.parametrize("to", ["mmdet3d", "mmdet3d-0.17", "bevfusion"])
def test_kernels_are_reshaped_for_hosts_of_another_layout(second, to):
    (part,) = prepare_export(second, to, VERIFIED).report.parts
    assert part.verified <= TOLERANCE
    assert len(part.reshaped) == (0 if to == "mmdet3d" else 21)
    assert len(part.matched) + len(part.reshaped) == 126


def test_mmdet3d_files_carry_the_layouts_version_and_others_do_not(second):
    content = prepare_export(second, "mmdet3d", ExportOptions()).content
    state = torch.load(io.BytesIO(content), weights_only=True)
    versions = state["state_dict"]._metadata
    assert versions["pts_middle_encoder.encoder_layers.encoder_layer1.0.conv1"] == {"version": 2}
    assert len(versions) == 21
    content = prepare_export(second, "mmdet3d-0.17", ExportOptions()).content
    assert not hasattr(torch.load(io.BytesIO(content), weights_only=True)["state_dict"], "_metadata")


def test_no_grid_decoder_or_optimiser_is_in_the_file(second):
    for to in ("openpcdet", "mmdet3d", "bevfusion"):
        content = prepare_export(second, to, ExportOptions()).content
        loaded = torch.load(io.BytesIO(content), weights_only=True)
        assert set(loaded) <= {"model_state", "state_dict", "version", "meta"}
        kinds = {key.rsplit(".", 1)[1] for key in tensors_of(second, to)}
        assert kinds <= {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


@pytest.mark.parametrize("to", ["openpcdet", "mmdet3d", "mmdet3d-0.17", "bevfusion"])
@pytest.mark.parametrize("fault", ["axes", "layout", "prefix", "key"])
def test_verify_finds_every_silent_fault(second, to, fault):
    """A file with one fault, as a careless exporter would write it, does not compute what we compute."""
    host, good = HOSTS[to], tensors_of(second, to)
    layout = host.layout
    other = Layout(layout.kernels, "xyz" if layout.axes == "zyx" else "zyx")
    turned = Layout("RSCK" if layout.kernels == "KRSC" else "KRSC", layout.axes)
    first = next(iter(good))
    bad = {
        "axes": lambda: convert_kernels(good, layout, other),
        "layout": lambda: convert_kernels(good, layout, turned),
        "prefix": lambda: {f"model.{k}": v for k, v in good.items()},
        "key": lambda: {k.replace(first, first + "s"): v for k, v in good.items()},
    }[fault]()
    try:
        difference = verify_part(second, "point_encoder", host, serialize(bad, host))
    except ValueError as error:
        assert fault != "axes" and str(error).startswith("verify: point_encoder: ")
    else:
        assert difference > 1e-2  # a hundred times the tolerance


def test_verify_finds_outputs_that_are_no_numbers(second):
    host, good = HOSTS["openpcdet"], tensors_of(second, "openpcdet")
    key = "backbone_3d.conv4.2.bn2.running_mean"
    wrong = good | {key: torch.full_like(good[key], torch.nan)}
    assert verify_part(second, "point_encoder", host, serialize(wrong, host)) == float("inf")


def test_verify_finds_axes_that_change_no_shape_at_all(second):
    """Only cubic kernels in the wrong order: every loader takes it."""
    host, good = HOSTS["openpcdet"], tensors_of(second, "openpcdet")
    wrong = {
        k: v.permute(0, 3, 2, 1, 4) if v.ndim == 5 and "conv_out" not in k else v for k, v in good.items()
    }
    assert {k: v.shape for k, v in wrong.items()} == {k: v.shape for k, v in good.items()}
    assert verify_part(second, "point_encoder", host, serialize(wrong, host)) > 1e-2


def test_verify_finds_a_single_cell_turned_as_hosts_turn_it():
    """The naive way from one layout to the other mixes up the channels of 1x1x1 kernels."""
    pretrained = from_modules({"point_encoder": unet()})
    host, good = HOSTS["pointcept"], tensors_of(pretrained, "pointcept")
    assert verify_part(pretrained, "point_encoder", host, serialize(good, host)) < TOLERANCE
    pointwise = [k for k, v in good.items() if v.ndim == 5 and v.shape[1:4] == (1, 1, 1)]
    assert pointwise
    wrong = dict(good)
    for key in pointwise:
        out, *_, channels = good[key].shape
        wrong[key] = good[key].reshape(channels, out).T.reshape(good[key].shape)
    assert verify_part(pretrained, "point_encoder", host, serialize(wrong, host)) > 1e-2


def test_a_file_that_does_not_verify_is_not_written(second, tmp_path, monkeypatch):
    def wrong(tensors, host, *, plain=False):
        kernels = {k: v.flip(1) if v.ndim == 5 else v for k, v in tensors.items()}
        return serialize(kernels, host, plain=plain)

    monkeypatch.setattr("renderpretrain.transfer.exporting.serialize", wrong)
    assert "verify: point_encoder: the outputs of VoxelResBackBone8x from the file differ by" in refused(
        tmp_path, second, "openpcdet", verify=True
    )


def test_a_checkpoint_of_the_host_is_compared_key_by_key(second, tmp_path):
    theirs = tensors_of(second, "openpcdet")
    theirs |= {"dense_head.weight": torch.ones(500, 500), "backbone_3d.extra.weight": torch.ones(7)}
    path = host_file(tmp_path / "host.pth", "openpcdet", theirs)
    done = export_encoders(second, "openpcdet", tmp_path / "o.pth", ExportOptions(host_checkpoint=path))
    (part,) = done.report.parts
    assert dict(part.missing) == {"backbone_3d.extra.weight": (7,)}
    assert 0.999 < done.report.share < 1.0


def test_a_host_of_another_width_is_named_with_both_shapes(second, tmp_path):
    theirs = tensors_of(second, "openpcdet")
    theirs["backbone_3d.conv_input.0.weight"] = torch.ones(16, 3, 3, 3, 4)
    path = host_file(tmp_path / "host.pth", "openpcdet", theirs)
    assert refused(tmp_path, second, "openpcdet", host_checkpoint=path) == (
        f"{path}: backbone_3d.conv_input.0.weight: the host has (16, 3, 3, 3, 4), "
        "point_encoder (16, 3, 3, 3, 5); the host reads 4 columns of a point, point_encoder x, y, z, "
        "intensity, lag: --drop-column lag leaves one out that was 0 throughout training, and pre-training "
        "with points=[x,y,z,intensity] does without"
    )


def test_a_host_of_another_spconv_is_told_apart(second, tmp_path):
    old = host_file(tmp_path / "old.pth", "mmdet3d-0.17", tensors_of(second, "mmdet3d-0.17"))
    said = refused(tmp_path, second, "mmdet3d", host_checkpoint=old)
    assert "the kernels of two spconv versions" in said and "mmdet3d-0.17" in said


def test_another_prefix_is_found_and_can_be_given(second, tmp_path):
    theirs = {f"model.{k}": v for k, v in tensors_of(second, "openpcdet").items()}
    path = host_file(tmp_path / "host.pth", "openpcdet", theirs)
    assert refused(tmp_path, second, "openpcdet", host_checkpoint=path) == (
        f"{path}: no key begins with 'backbone_3d.'; conv1.0.conv1.weight lies under "
        "--prefix 'model.backbone_3d.'"
    )
    for prefix in ("model.backbone_3d.", "model.backbone_3d"):
        options = ExportOptions(host_checkpoint=path, prefix=prefix, verify=True)
        done = export_encoders(second, "openpcdet", tmp_path / "o.pth", options)
        assert done.report.share == 1.0
        assert all(k.startswith("model.") for k in read_as_host(done.content, HOSTS["openpcdet"]))


def test_data_parallel_checkpoints_of_the_host_are_read_without_their_prefix(tmp_path):
    pretrained = from_modules({"point_encoder": unet()})
    theirs = tensors_of(pretrained, "pointcept") | {"backbone.final.weight": torch.ones(13, 1, 1, 1, 8)}
    for outer in ("", "module."):
        path = tmp_path / "host.pth"
        torch.save({"state_dict": {outer + k: v for k, v in theirs.items()}, "epoch": 3}, path)
        report = prepare_export(pretrained, "pointcept", ExportOptions(host_checkpoint=path)).report
        assert list(report.parts[0].missing) == ["backbone.final.weight"]
        assert not report.parts[0].unexpected


def test_too_little_is_refused_with_the_first_gap(tmp_path):
    """A small encoder fits no fixed network; the line says what would have to be there."""
    tiny = shaken(
        SparseEncoder(5, 32, channels=((16, 32), (32, 32)), strides=((2,) * 3,), paddings=((1,) * 3,))
    )
    said = refused(tmp_path, from_modules({"point_encoder": tiny}), "openpcdet")
    assert said.startswith("openpcdet (OpenPCDet): ") and "--min-match asks for 95%" in said
    assert "first missing: backbone_3d.conv1.1.conv1.weight (16, 3, 3, 3, 16)" in said
    assert said.endswith(FIXED)
    assert prepare_export(from_modules({"e": tiny}), "mmdet3d-0.17", VERIFIED).report.share == 1.0


FIXED = (
    "; OpenPCDet's code fixes the widths and stages of VoxelResBackBone8x, which only the presets named "
    "`paper` have"
)


def test_fixed_widths_are_the_reason_only_where_they_differ(tmp_path, second, unipad):
    wide = SparseEncoder(5, channels=((32, 32, 32), (32, 32, 64), (64, 64, 128), (128, 128)))
    said = refused(tmp_path, from_modules({"point_encoder": wide}), "openpcdet")
    assert said.startswith("openpcdet: backbone_3d.conv_input.0.weight: the host has (16, 3, 3, 3, 5), ")
    assert said.endswith(f"point_encoder (32, 3, 3, 3, 5){FIXED}")
    assert "code fixes" not in refused(tmp_path, unipad, "openpcdet", min_match=1.0)  # the last layer alone
    theirs = tensors_of(second, "openpcdet") | {"backbone_3d.more.weight": torch.ones(10**6)}
    path = host_file(tmp_path / "host.pth", "openpcdet", theirs)
    assert "code fixes" not in refused(tmp_path, second, "openpcdet", host_checkpoint=path)


def test_what_is_read_is_not_written_over(tmp_path, second):
    """Refused before anything is read: the run's files are none that could be."""
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (tmp_path / "link").symlink_to(run / "checkpoints")
    read = [run / "checkpoints" / "final.pt", run / "config.yaml", tmp_path / "host.pth"]
    for path in read:
        path.write_text("precious")
    outs = [*read, run / "checkpoints" / "new.pth", tmp_path / "link" / "final.pt"]
    for out in outs:
        with pytest.raises(
            ValueError, match=r"^out: expected a file outside of what is read, got .*, which "
        ):
            export_encoders(run, "mmdet3d", out, ExportOptions(host_checkpoint=read[2]))
    with pytest.raises(ValueError, match=r"which is read itself$"):
        export_encoders(read[0], "mmdet3d", read[0])
    assert all(path.read_text() == "precious" for path in read)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["final.pt"]
    for _ in range(2):
        export_encoders(second, "mmdet3d", run / "earlier.pth")


def test_an_encoder_without_a_place_is_one_line(tmp_path, second):
    said = refused(tmp_path, from_modules({"point_encoder": unet()}), "openpcdet")
    assert said.startswith("to: openpcdet has no place for what this run trained: point_encoder (SparseUNet)")
    assert "it takes SparseEncoder, VoxelBackBone8x" in said
    assert "expected one of openpcdet, mmdet3d" in refused(tmp_path, second, "detectron")
    assert refused(tmp_path, second, "openpcdet", part="lidar") == (
        "part: expected one of point_encoder, got 'lidar'"
    )


def test_parts_without_a_place_are_named_beside_those_that_have_one(second):
    both = from_modules({"point_encoder": second_encoder(), "second_encoder": unet()})
    report = prepare_export(both, "openpcdet", ExportOptions()).report
    assert dict(report.unplaced) == {"second_encoder": "SparseUNet"}
    console = Console(file=io.StringIO(), width=140)
    print_report(report, console)
    said = console.file.getvalue()
    assert "no place for second_encoder (SparseUNet)" in said
    assert "openpcdet (OpenPCDet): 100.0% of the parameters" in said
    assert json.loads(json.dumps(report.as_tree()))["share"] == 1.0


def test_momentum_that_differs_from_the_hosts_is_said():
    encoder = second_encoder()
    for norm in encoder.modules():
        if hasattr(norm, "momentum"):
            norm.momentum = 0.1
    report = prepare_export(from_modules({"point_encoder": encoder}), "openpcdet", ExportOptions()).report
    assert report.parts[0].norm.ours == (1e-3, 0.1)
    console = Console(file=io.StringIO(), width=140)
    print_report(report, console)
    assert "eps, momentum (0.001, 0.1) here, (0.001, 0.01) there" in console.file.getvalue()


def test_a_files_name_says_what_is_in_it(tmp_path, second):
    with pytest.raises(ValueError, match=r"reads what torch\.save writes; expected a \.pth file"):
        export_encoders(second, "openpcdet", tmp_path / "e.safetensors")
    with pytest.raises(ValueError, match=r"out: expected a \.safetensors file"):
        export_encoders(second, "safetensors", tmp_path / "e.pth")
    assert not list(tmp_path.iterdir())
    image = from_modules({"image_backbone": shaken(ResNet((1, 1, 1, 1), width=8))})
    done = export_encoders(image, "timm", tmp_path / "e.safetensors", VERIFIED)
    path = tmp_path / "e.safetensors"
    assert (
        f"load_file('{path}')" in done.snippet
        and "FILE" not in done.snippet
        and "torch.load" not in done.snippet
    )
    assert torch.equal(
        load_file(tmp_path / "e.safetensors")["conv1.weight"],
        image.encoders["image_backbone"].tensors["conv1.weight"],
    )


def test_timms_resnet_does_not_compute_one_that_strides_first(tmp_path):
    """The keys and shapes are the same: only the outputs tell."""
    caffe = ResNet((1, 1, 1, 1), bottleneck=True, width=8, stride_first=True)
    pretrained = from_modules({"image_backbone": shaken(caffe)})
    assert "verify: image_backbone: the outputs" in refused(tmp_path, pretrained, "timm", verify=True)
    notes = prepare_export(pretrained, "timm", ExportOptions()).report.notes
    assert any("strides in its second" in note for note in notes)
    report = prepare_export(pretrained, "mmdet3d", VERIFIED).report
    assert report.parts[0].verified < TOLERANCE


def test_verify_finds_swins_merging_in_the_order_of_another_family(tmp_path):
    """mmdetection reads merged cells in another order; no shape tells."""
    swin = from_modules({"image_backbone": SwinTransformer((2, 2, 2, 2), 32)})
    host, good = HOSTS["mmdet3d"], tensors_of(swin, "mmdet3d")
    assert verify_part(swin, "image_backbone", host, serialize(good, host)) < TOLERANCE
    wrong = dict(good)
    for key, value in swin.encoders["image_backbone"].tensors.items():
        if ".downsample.reduction" in key:
            stage = int(key.split(".")[1]) - 1
            wrong[f"img_backbone.stages.{stage}.downsample.reduction.weight"] = value
    assert verify_part(swin, "image_backbone", host, serialize(wrong, host)) > 1e-2


def test_bevfusions_maps_lie_the_other_way(tmp_path):
    """Its bird's-eye maps are (X, Y): the view transform's last convolutions are turned."""
    recipe = RECIPES["ns-mae"].build(RECIPES["ns-mae"].presets["tiny"])
    config = RECIPES["ns-mae"].presets["tiny"].model_dump(mode="json")
    parts = {"lifter": shaken(recipe.encoders()["lifter"])}
    pretrained = from_modules(parts, {"recipe": "ns-mae", "config": config})
    host, good = HOSTS["bevfusion"], tensors_of(pretrained, "bevfusion")
    name = "encoders.camera.vtransform.downsample.0.weight"
    ours = parts["lifter"].state_dict()["downsample.0.weight"]
    assert torch.equal(good[name], ours.transpose(2, 3)) and not torch.equal(good[name], ours)
    assert verify_part(pretrained, "lifter", host, serialize(good, host)) < TOLERANCE
    wrong = {**good, name: ours.contiguous()}
    assert verify_part(pretrained, "lifter", host, serialize(wrong, host)) > 1e-2


def test_an_empty_report_is_no_match():
    assert TransferReport("nowhere", ()).share == 0.0
