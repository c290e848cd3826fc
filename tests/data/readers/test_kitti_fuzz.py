"""Files of KITTI's with bytes replaced, cut or swapped: one line, or frames that can be read."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from renderpretrain.data import SceneFolder, SceneFolderError
from renderpretrain.data.readers import READERS
from tests.data.readers.test_kitti_raw import root
from tests.data.readers.test_semantickitti import dataset

__all__ = ["dataset", "root"]

KITTI = READERS["kitti"]


@pytest.mark.long
@pytest.mark.parametrize("layout", ["root", "dataset"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(data=st.data())
def test_damaged_folders_are_one_line_or_read(request, layout, data):
    path = request.getfixturevalue(layout)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    file, other = data.draw(st.sampled_from(files)), data.draw(st.sampled_from(files))
    whole, damage = (
        file.read_bytes(),
        data.draw(st.one_of(st.binary(max_size=64), st.just(other.read_bytes()))),
    )
    place = data.draw(st.integers(0, len(whole)))
    file.write_bytes(whole[:place] + damage + whole[place + data.draw(st.integers(0, 64)) :])
    try:
        folder = SceneFolder(path, sweeps=2, reader=KITTI)
        assert [len(folder[k].points) > 0 for k in range(len(folder))]
    except SceneFolderError as error:
        assert "\n" not in str(error)
    finally:
        file.write_bytes(whole)
