"""Fixtures every test shares: a fixed seed, the devices at hand, and where real recordings lie.

``make test`` runs the suite in two halves: with the shapes in the annotations checked, and without. A test
runs in one of them; ``both`` puts it into the two, ``untyped`` and the folders below into the second. Slow
tests are run by ``make test-slow``, without checked shapes.
"""

import gc
import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent

OTHER_PROCESSES = ("benchmarks", "cli", "native", "report", "test_examples.py", "verbs")
"""What works through other processes, which check no shapes, or through the command line as users do."""

NO_SHAPES = ("runs", "storage", "transfer")
"""What handles names and files: no annotation there has a shape, and mypy checks the others."""

SAME_SHAPES = ("probes/fair/test_fair.py", "probes/test_probe.py", "training/test_fit.py")
"""Many runs of one recipe on the same scenes; those that are marked ``both`` have their shapes checked."""

WITHOUT_CHECKED_SHAPES = OTHER_PROCESSES + NO_SHAPES + SAME_SHAPES

HUNDREDS_OF_CALLS = {"gradcheck", "gradgradcheck"}
"""Numerical differentiation calls one function again and again with the same shapes: others check them."""

WITH_AND_WITHOUT = ("test_equal_seeds.py",)
"""Beside comparisons with published numbers: what says that whoever draws from equal seeds is right."""


LEFT_OUT = pytest.StashKey[int]()
"""How many tests were left out for want of a GPU."""


def pytest_ignore_collect(collection_path, config):
    """Folders of the other half are not imported, which takes seconds in each process."""
    tests = ROOT / "tests"
    if "not untyped" in config.getoption("markexpr") and collection_path.is_relative_to(tests):
        place = collection_path.relative_to(tests).as_posix()
        return place.startswith(OTHER_PROCESSES + NO_SHAPES) or None
    return None


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config, items):
    tests = ROOT / "tests"
    for item in items:
        place = item.path.relative_to(tests).as_posix()
        repeats = HUNDREDS_OF_CALLS & set(item.function.__code__.co_names)
        if item.get_closest_marker("both"):
            continue
        if repeats or place.startswith(WITHOUT_CHECKED_SHAPES):
            item.add_marker("untyped")
        elif place.startswith(WITH_AND_WITHOUT) or "golden" in item.fixturenames:
            item.add_marker("both")
    yield  # to -k and -m, which read the marks
    leave_out_what_needs_a_gpu(config, items)


def pytest_collection_finish():
    """What was imported stays: the collector need not walk through it again and again."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item):
    """Whether spconv works is tried by who needs it: it takes seconds in each process."""
    if item.get_closest_marker("spconv"):
        from renderpretrain.encoders import spconv_status  # not before the hook that checks shapes is there

        if not (status := spconv_status())["ok"]:
            pytest.skip(f"spconv: {status['why']}")


def leave_out_what_needs_a_gpu(config, items):
    """A thousand skips take a minute; who asks for them by ``-m gpu`` gets each with its reason."""
    if torch.cuda.is_available() or "gpu" in config.getoption("markexpr"):
        return
    left_out = [item for item in items if item.get_closest_marker("gpu")]
    items[:] = [item for item in items if not item.get_closest_marker("gpu")]
    config.hook.pytest_deselected(items=left_out)
    config.stash[LEFT_OUT] = len(left_out)
    if hasattr(config, "workeroutput"):  # of a process that pytest-xdist started
        config.workeroutput["left_out"] = len(left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """What a process of pytest-xdist left out: each has the same tests before it."""
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", 0)


def pytest_terminal_summary(terminalreporter, config):
    if left_out := config.stash.get(LEFT_OUT, 0):
        terminalreporter.write_line(f"left out: {left_out} tests for a GPU, no CUDA device on this machine")


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory):
    """What is remembered about recordings stays among the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _no_wait_for_the_disk():
    """Files are not flushed to the disk, which is a hundred times slower; no test cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # which refuses what is no open file, too
        yield


@pytest.fixture(autouse=True)
def _seed():
    if torch.cuda.is_available():
        torch.manual_seed(0)
    else:  # which would note the whole stack for each kind of device that is absent
        torch.default_generator.manual_seed(0)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")
    return torch.device(request.param)


@pytest.fixture
def one_flipped_bit():
    """Damages a file, one bit of every so many-th byte after the other; in the end it is as before."""

    def damages(path, first=0, every=1):
        whole = path.read_bytes()
        for place in range(first, len(whole), every):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << place % 8
            path.write_bytes(damaged)
            yield place
        path.write_bytes(whole)

    return damages


@pytest.fixture
def realdata():
    """The folder of real recordings, or a skip that says how to give one."""
    folder = Path(os.environ.get("RENDERPRETRAIN_REALDATA", ROOT.parent / "shared" / "realdata"))
    if not folder.is_dir():
        pytest.skip("real recordings are absent: set RENDERPRETRAIN_REALDATA to their folder")
    return folder


@pytest.fixture
def golden():
    """Loads a file of numbers from the authors' code, or skips where it is absent."""
    import numpy as np

    def load(name):
        for folder in (ROOT / "tests" / "golden", ROOT.parent / "shared" / "golden"):
            if (folder / name).is_file():
                with np.load(folder / name) as file:
                    return {
                        key: torch.from_numpy(file[key]) if file[key].dtype.kind in "fiub" else file[key]
                        for key in file.files
                    }
        pytest.skip(f"{name} is neither in tests/golden nor beside the project")

    return load
