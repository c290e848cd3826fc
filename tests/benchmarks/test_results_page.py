"""``docs/results.md`` says what ``docs/results/*.json`` say."""

from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def results_page(benchmark_module):
    return benchmark_module("results_page")


def test_the_page_is_made_from_the_files(results_page):
    made = results_page.page(results_page.read_results())
    assert (DOCS / "results.md").read_text() == made, "run: python benchmarks/results_page.py"


def test_a_file_says_how_its_figures_were_made(results_page):
    results = results_page.read_results()
    assert len(results) > 3
    for result in results:
        for name in ("title", "what", "date", "commit", "machine", "commands", "tables"):
            assert result[name], (result["file"], name)
        for described in result["tables"]:
            assert {len(row) for row in described["rows"]} == {len(described["columns"])}, result["file"]
        assert all((DOCS / picture["file"]).is_file() for picture in result.get("pictures", []))


def test_cells_keep_their_digits_and_seeds_become_a_mean_and_its_deviation(results_page):
    described = {"columns": ["a", "b", "c"], "rows": [["x", [0.1, 0.3], None], ["y", 0.25, 16.0]]}
    lines = results_page.table(described).splitlines()
    assert lines[2:] == ["| x | 0.200\u00a0±\u00a00.141 |  |", "| y | 0.25 | 16.0 |"]
    lines = results_page.table(described | {"digits": 3}, described["rows"][1:]).splitlines()
    assert lines[2:] == ["| y | 0.250 | 16.000 |"]
