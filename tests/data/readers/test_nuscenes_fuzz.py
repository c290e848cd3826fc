"""Tables of nuScenes in which anything stands in the place of a value: one line, or scenes."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from renderpretrain.data import SceneFolderError, open_data
from tests.data.readers.nuscenes_files import Writer

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=9),
    st.lists(st.floats() | st.integers(-(2**70), 2**70) | st.text(max_size=3), max_size=5),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
TABLES = (
    *("scene", "sample", "sample_data", "ego_pose", "calibrated_sensor"),
    *("sensor", "category", "instance", "sample_annotation", "lidarseg"),
)


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    path = tmp_path_factory.mktemp("nuscenes")
    return path, Writer(path, scenes=("scene-0061",))


@pytest.mark.long
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_of_a_table_is_one_line_or_read(drive, data):
    path, writer = drive
    table = data.draw(st.sampled_from(TABLES))
    rows = [dict(row) for row in writer.tables[table]]
    row = data.draw(st.sampled_from(rows))
    name = data.draw(st.sampled_from(sorted(row)))
    if data.draw(st.booleans()):
        row[name] = data.draw(ODD)
    else:
        del row[name]
    text = json.dumps(rows)
    cut = data.draw(st.none() | st.integers(0, len(text)))
    writer.save(**{table: text[:cut]})
    try:
        folder = open_data(f"nuscenes:{path}", sweeps=3)
        for k in range(len(folder)):
            assert folder[k].points.isfinite().all()
    except SceneFolderError as error:
        assert "\n" not in str(error) and str(path) in str(error)
