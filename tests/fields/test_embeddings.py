"""Class embeddings from a file: what is read, and one line for everything that can be wrong with it."""

import resource
import zipfile

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from renderpretrain.fields import hashed_embeddings, load_embeddings

NAMES = np.array(["car", "tree", "road"])


def saved(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_vectors_are_read_at_unit_length(tmp_path):
    vectors = np.array([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]], np.float16)
    embeddings = load_embeddings(saved(tmp_path / "e.npz", names=NAMES, vectors=vectors))
    assert embeddings.names == ("car", "tree", "road") and embeddings.channels == 2
    assert_close(embeddings.vectors, torch.tensor([[0.6, 0.8], [0.0, 1.0], [1.0, 0.0]]))


@pytest.mark.parametrize("scale", [1e300, 1e-300, 5e-324])
def test_vectors_whose_squares_are_no_numbers_have_unit_length_too(scale, tmp_path):
    vectors = np.eye(3) * scale
    embeddings = load_embeddings(saved(tmp_path / "e.npz", names=NAMES, vectors=vectors))
    assert torch.equal(embeddings.vectors, torch.eye(3))


def test_labels_without_a_vector_are_not_valid(tmp_path):
    """-1 must not read the last vector, as it does in the published outdoor code."""
    embeddings = load_embeddings(saved(tmp_path / "e.npz", names=NAMES, vectors=np.eye(3)))
    vectors, valid = embeddings.targets(torch.tensor([[0, -1], [2, 3]]))
    assert valid.tolist() == [[True, False], [True, False]]
    assert_close(vectors, torch.tensor([[[1.0, 0, 0], [0, 0, 0]], [[0, 0, 1], [0, 0, 0]]]))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"names": NAMES}, r"expected arrays 'names' and 'vectors', got \['names'\]"),
        (
            {"names": np.arange(3), "vectors": np.eye(3)},
            r"names: expected \(K,\) of text, got \(3,\) of int64",
        ),
        ({"names": NAMES, "vectors": np.eye(4)}, r"vectors: expected \(3, C\) of floating.*got \(4, 4\)"),
        ({"names": NAMES, "vectors": np.eye(3, dtype=int)}, r"got \(3, 3\) of int64"),
        ({"names": NAMES[[0, 1, 0]], "vectors": np.eye(3)}, r"names: expected all different, got \['car'\]"),
        ({"names": NAMES, "vectors": np.diag([1.0, 0, 1])}, r"not zero, got others for \['tree'\]"),
        ({"names": NAMES, "vectors": np.diag([1.0, 1, np.nan])}, r"finite.*\['road'\]"),
        ({"names": NAMES.astype(object), "vectors": np.eye(3)}, "Object arrays cannot be loaded"),
    ],
)
def test_contents_that_do_not_fit_are_one_line(tmp_path, arrays, message):
    path = tmp_path / "e.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=message) as error:
        load_embeddings(path)
    assert str(error.value).startswith(f"embeddings: {path}: ") and "\n" not in str(error.value)


def test_a_file_that_is_no_archive_is_one_line(tmp_path):
    path = tmp_path / "e.npz"
    with pytest.raises(ValueError, match=r"embeddings: expected an \.npz file, found none at .*e\.npz"):
        load_embeddings(path)
    for content in (b"", b"text", b"PK\x03\x04 cut off"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"embeddings: .*e\.npz: ") as error:
            load_embeddings(path)
        assert "\n" not in str(error.value)
    np.save(path.with_suffix(".npy"), np.eye(3))
    with pytest.raises(ValueError, match="got a single array"):
        load_embeddings(path.with_suffix(".npy"))


@pytest.mark.parametrize("kind", ["deflated zeros", "a header that lies", "a name of 400 MB"])
def test_small_archives_do_not_take_memory(kind, tmp_path):
    path, before = tmp_path / "e.npz", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if kind == "deflated zeros":
        with (
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("vectors.npy", "w") as file,
        ):
            header = {"descr": "<f8", "fortran_order": False, "shape": (40, 2**20)}
            np.lib.format.write_array_header_1_0(file, header)
            for _ in range(40):
                file.write(bytes(2**23))
    else:
        descr, shape = ("<f4", (2, 2**40)) if kind == "a header that lies" else ("<U100000000", (2,))
        with zipfile.ZipFile(path, "w") as archive, archive.open("names.npy", "w") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": descr, "fortran_order": False, "shape": shape}
            )
            file.write(bytes(100))
    with pytest.raises(ValueError, match=r"embeddings: .*e\.npz: .*got (more|less)"):
        load_embeddings(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_a_name_always_has_the_same_random_direction():
    both = hashed_embeddings(["wall", "chair"], 64)
    assert_close(both.vectors.norm(dim=1), torch.ones(2))
    assert torch.equal(hashed_embeddings(["chair"], 64).vectors[0], both.vectors[1])
    # The first number of "wall"; another hash or generator would change what trained heads mean.
    assert_close(both.vectors[0, 0], torch.tensor(-0.0635908), atol=1e-6, rtol=0)
    many = hashed_embeddings([f"class {i}" for i in range(50)], 256).vectors
    cosines = (many @ many.T)[~torch.eye(50, dtype=torch.bool)]
    # 1 / sqrt(256), from 1225 pairs.
    assert_close(cosines.std(), torch.tensor(1 / 16), atol=0.006, rtol=0)
    with pytest.raises(ValueError, match="expected different names"):
        hashed_embeddings(["wall", "wall"], 8)
