"""Teachers whose answer is known, their maps on the disk, and what is refused of them."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from renderpretrain.encoders import ConvNeXt, ImageMaps
from renderpretrain.teachers import ImageTeacher, image_checksum, open_maps, write_maps
from renderpretrain.teachers.stored_maps import _file_name, _unpacked

PALETTE = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])


class Classes(nn.Module):
    """Exact classes: which of four colours a pixel has, as one-hot maps."""

    def forward(self, images):
        distance = (images[:, None] - PALETTE.view(1, 4, 3, 1, 1)).square().sum(2)
        return nn.functional.one_hot(distance.argmin(1), 4).movedim(-1, 1).float()


class Transformer(nn.Module):
    """What torch.hub's DINOv2 is asked: the last layers, as maps."""

    def get_intermediate_layers(self, x, n=1, reshape=False, norm=True):
        assert reshape and not norm and x.shape[-1] % 14 == 0
        return tuple(x[..., ::14, ::14] * (12 - n + i) for i in range(n))


@dataclass
class Pictures:
    """A scene as far as a teacher sees it."""

    name: str
    images: Tensor | None


def painted(index):
    """Two images of random colours of the palette, and their classes."""
    classes = torch.randint(4, (2, 6, 8), generator=torch.Generator().manual_seed(index))
    return PALETTE[classes].movedim(-1, 1), classes


def scenes(count=5):
    return [Pictures(f"street/{i}", painted(i)[0]) for i in range(count)] + [Pictures("dark", None)]


def plain(network, layers=(-1,), **more):
    return ImageTeacher(network, layers, mean=(0, 0, 0), std=(1, 1, 1), **more)


def frozen_convolution(channels=100):
    torch.manual_seed(3)
    return nn.Conv2d(3, channels, 2, stride=2)


def test_exact_classes_come_back_as_they_are(tmp_path):
    write_maps(tmp_path, plain(Classes()), scenes())
    stored = open_maps(tmp_path)
    assert stored.channels == (4,)
    images, classes = painted(3)
    (maps,) = stored.read("street/3", images)
    assert torch.equal(maps.argmax(1), classes) and torch.equal(maps.sum(1), torch.ones(2, 6, 8))


def test_wide_maps_keep_their_main_directions(tmp_path):
    """A random convolution of 12 numbers has 12 directions, of which 16 channels lose nothing."""
    network = frozen_convolution()
    stored = write_maps(tmp_path, plain(network), scenes(), channels=16, fit_on=3)
    kept, _ = _unpacked(tmp_path / "teacher.safetensors")
    images, _ = painted(4)
    (few,) = stored.read("street/4", images)
    assert few.shape == (2, 16, 3, 4)
    back = torch.einsum("nkhw,ck->nchw", few, kept["basis/0"]) + kept["mean/0"].view(1, -1, 1, 1)
    assert_close(back, network(images).detach(), rtol=0, atol=5e-3)  # half precision of numbers about 1
    variance = few.movedim(1, -1).flatten(0, 2).var(0)
    assert (variance[:4] > variance[12:].max()).all()


def test_batches_are_padded_and_interrupted_writing_goes_on(tmp_path):
    made = []

    class Counted(Classes):
        def forward(self, images):
            made.append(len(images))
            return super().forward(images)

    write_maps(tmp_path, plain(Counted()), scenes(3), fit_on=1)
    stored = write_maps(tmp_path, plain(Counted()), scenes(5))
    assert len(made) == 1 + 5  # to find directions, and once for every scene
    images = torch.zeros(2, 3, 3, 6, 8)
    images[0, :2], images[1, :2] = painted(0)[0], painted(4)[0]
    (maps,) = stored.batch(["street/0", "street/4"], images, torch.tensor([[True, True, False]] * 2))
    assert torch.equal(maps[1, :2].argmax(1), painted(4)[1]) and not maps[:, 2].any()


def test_files_are_read_once_as_far_as_memory_goes_and_other_images_are_still_refused(tmp_path):
    stored = write_maps(tmp_path, plain(Classes()), scenes(3))
    assert not stored.kept  # writing keeps nothing
    size = sum(maps.nbytes for maps in stored.load("street/0", painted(0)[0]))
    stored = replace(stored, most_kept=2 * size, kept={})
    first = [stored.read(f"street/{i}", painted(i)[0]) for i in range(3)]
    assert list(stored.kept) == ["street/0", "street/1"]
    for file in (tmp_path / "maps").iterdir():
        file.unlink()
    for i in range(2):
        assert torch.equal(stored.read(f"street/{i}", painted(i)[0])[0], first[i][0])
    for name, images in (("street/2", painted(2)[0]), ("street/0", painted(0)[0].flip(-1))):
        with pytest.raises(ValueError, match=f"expected maps of scene '{name}', found none"):
            stored.read(name, images)


def test_the_checksum_is_of_what_decides_on_the_maps():
    network = frozen_convolution()
    known = plain(network).checksum()
    assert plain(frozen_convolution()).checksum() == known
    others = [plain(network, (0,)), plain(network, size=(4, 4)), ImageTeacher(network, (-1,))]
    changed = frozen_convolution()
    with torch.no_grad():
        changed.weight[0, 0, 0, 0] += 1e-6
    assert len({known, *(o.checksum() for o in others), plain(changed).checksum()}) == 5
    images, _ = painted(0)
    assert image_checksum(images) == image_checksum(images + 1e-4) != image_checksum(images + 5e-3)


@pytest.mark.parametrize(
    ("network", "layers", "shapes"),
    [
        (ConvNeXt((1, 1, 1, 1), (4, 8, 12, 16)), (-2, -1), [(12, 4, 6), (16, 2, 3)]),
        (ImageMaps(nn.Conv2d(3, 5, 8, stride=8), [5]), (0,), [(5, 8, 12)]),
        (Transformer(), (-2, -1), [(3, 4, 4), (3, 4, 4)]),
    ],
    ids=["levels", "maps", "torch.hub"],
)
def test_whoever_wrote_it_gives_maps_of_the_layers(network, layers, shapes):
    size = (56, 56) if isinstance(network, Transformer) else None
    teacher = ImageTeacher(network, layers, size=size).train()
    maps = teacher(torch.rand(2, 3, 64, 96))
    assert [tuple(x.shape[1:]) for x in maps] == shapes
    assert not any(x.requires_grad for x in maps) and not network.training
    if isinstance(network, Transformer):
        assert_close(maps[1] * 10, maps[0] * 11)


@pytest.mark.untyped
def test_what_does_not_fit_is_refused_in_one_line(tmp_path):
    write_maps(tmp_path / "a", plain(Classes()), scenes(2))
    folder, stored, (images, _) = tmp_path / "a", open_maps(tmp_path / "a"), painted(0)
    hub, other = plain(Transformer()), plain(frozen_convolution())
    write_maps(tmp_path / "b", other, scenes(2))
    strange = next((tmp_path / "b" / "maps").iterdir())
    cases = {
        r"a.*expected maps of teacher .*, got those of .*another folder$": lambda: open_maps(folder, other),
        r"maps of the images that scene 'street/0' has now": lambda: stored.read("street/0", images.flip(-1)),
        r"expected maps of scene 'street/7', found none": lambda: stored.read("street/7", images),
        r"expected a teacher's maps with teacher.safetensors": lambda: open_maps(tmp_path),
        r"holds maps of 64 channels, got channels=8$": lambda: write_maps(
            tmp_path / "a", plain(Classes()), scenes(2), channels=8
        ),
        r"^scenes: expected some with images": lambda: write_maps(tmp_path / "c", other, scenes(0)),
        r"^layers: expected indices of 1 maps, got -2$": lambda: plain(Classes(), (-2,))(images),
        r"^layers: expected .*counted from the end": lambda: plain(Transformer(), (3,)),
        r"^images: expected a size that the teacher's network takes, got \(6, 8\)": lambda: hub(images),
        r"^network: expected a map \(2, C, h, w\) of layer -1, got \(2, 96\)": lambda: plain(
            nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten())
        )(images),
    }
    for message, call in cases.items():
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "\n" not in str(error.value)
    broken = tmp_path / "a" / "maps" / strange.name
    whole = broken.read_bytes()
    name = next(s.name for s in scenes(2) if _file_name(s.name) == broken.name)
    for damage in (whole[:-5], whole[:40], b"", strange.read_bytes()):
        broken.write_bytes(damage)
        with pytest.raises(ValueError, match=str(broken)) as error:
            stored.read(name, painted(int(name[-1]))[0])
        assert "\n" not in str(error.value)
    write_maps(tmp_path / "a", plain(Classes()), scenes(2))  # makes what cannot be read anew
    assert broken.read_bytes() == whole
