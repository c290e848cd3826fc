"""The page in a headless Chromium: nothing sticks out, nothing complains, nothing is asked for."""

import json
from contextlib import ExitStack
from datetime import datetime, timezone

import pytest
from browser import CHROMIUM, browser

from renderpretrain.report import report_page, write_report
from renderpretrain.runs.lock import run_lock
from renderpretrain.runs.record import read_record

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH: apt-get install chromium")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def files(trained, tmp_path_factory):
    """The page of a run, and of three side by side."""
    folder = tmp_path_factory.mktemp("pages")
    three = write_report([trained] * 3, folder / "three.html")
    return {"one": trained / "report.html", "three": three}


@pytest.mark.parametrize("which", ["one", "three"])
@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_sticks_out_and_nothing_complains(page, files, which, width):
    papers = []
    for scheme in ("light", "dark"):
        page.open(files[which], width=width, scheme=scheme)
        for _ in range(2):  # the second time with everything unfolded
            sizes = "['scrollWidth', 'clientWidth'].map((each) => document.documentElement[each])"
            wide, inside, all_of_it = page.run(f"[...{sizes}, innerWidth]")
            assert wide <= inside <= all_of_it == width
            page.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        counts = "['.chart', '.chart path'].map((each) => document.querySelectorAll(each).length)"
        charts, drawn = page.run(counts)
        assert drawn >= charts > 10
        papers.append(page.run("getComputedStyle(document.body).backgroundColor"))
        assert page.complaints == []
        assert page.requests == [files[which].as_uri()]
    assert len(set(papers)) == 2


def test_curves_are_read_out_and_smoothed(page, files):
    page.open(files["one"], width=1280, scheme="light")
    page.run("document.querySelector('#losses .plot').focus()")
    readout = "document.querySelector('#losses .readout')"
    assert page.run(f"{readout}.hidden")
    page.press("ArrowLeft")
    assert page.run(f"{readout}.textContent").startswith("step 2")
    page.press("ArrowLeft")
    assert page.run(f"{readout}.textContent").startswith("step 1")
    page.press("Escape")
    assert page.run(f"{readout}.hidden")
    x, y = page.run(
        "(() => { const plot = document.querySelector('#held-out-scores .plot'); plot.scrollIntoView();"
        "const box = plot.getBoundingClientRect(); return [box.right - 20, box.top + 60]; })()"
    )
    page.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    told = page.run("document.querySelector('#held-out-scores .readout').textContent")
    assert told.startswith("step 2") and "nearest point" in told
    curve = "[...document.querySelectorAll('#losses path')].map((each) => each.getAttribute('d')).join()"
    page.run("document.querySelector('select.scale').value = 'logarithmic'")
    before = page.run(curve)
    page.run("document.querySelector('select.scale').dispatchEvent(new Event('change'))")
    assert page.run(curve) != before


def test_the_border_between_two_steps_moves(page, files):
    page.open(files["one"], width=1280, scheme="light")
    shown = (
        "[...document.querySelector('.stack.changes').querySelectorAll('img')]"
        ".filter((each) => getComputedStyle(each).visibility === 'visible').map((each) => each.dataset.step)"
    )
    assert page.run(shown) == ["0", "2"]
    page.run("document.querySelector('.wipe').focus()")
    before = page.run("getComputedStyle(document.querySelector('.over')).clipPath")
    page.press("ArrowRight")
    assert page.run("getComputedStyle(document.querySelector('.over')).clipPath") != before
    page.run(
        "{ const choice = document.querySelector('select.left'); choice.value = '1';"
        "choice.dispatchEvent(new Event('change')); }"
    )
    assert page.run(shown) == ["1", "2"]
    page.run("[...document.querySelectorAll('summary')].at(-1).click()")
    page.open(files["one"], width=1280, scheme="light")  # as a page does that looks again
    assert page.run(shown) == ["1", "2"]
    assert page.run("document.querySelector('.wipe').value") == "51"
    assert page.run("[...document.querySelectorAll('details')].at(-1).open")


def test_one_border_moves_in_the_pictures_of_all_runs(page, trained, run, tmp_path):
    (run / "pictures" / "step_000001.png").unlink()
    page.open(write_report([trained, run], tmp_path / "apart.html"), width=1280, scheme="light")
    stacks = "[...document.querySelector('.group:has(.changes)').querySelectorAll('.stack')]"
    seen = (
        f"{stacks}.map((stack) => [...stack.querySelectorAll('img')]"
        ".filter((each) => getComputedStyle(each).visibility === 'visible').map((each) => each.dataset.step))"
    )
    assert page.run(seen) == [["0", "2"], ["0", "2"]]
    page.run(
        "{ const choice = document.querySelector('select.right'); choice.value = '1';"
        "choice.dispatchEvent(new Event('change')); }"
    )
    assert page.run(seen) == [["0", "1"], ["0"]]  # the other run has none of step 1
    assert len(set(page.run(f"{stacks}.map((stack) => stack.getBoundingClientRect().top)"))) == 1
    assert page.run("document.querySelectorAll('.wipe').length") == 1


def test_each_run_is_read_at_its_nearest_step(page, trained, run, tmp_path):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    later = [json.dumps(row | {"step": row["step"] + 1}) + "\n" for row in rows]
    (run / "metrics.jsonl").write_text("".join(later))
    page.open(write_report([trained, run], tmp_path / "apart.html"), width=1280, scheme="light")
    page.run("document.querySelector('#losses .plot').focus()")
    page.press("End")
    told = page.run("[...document.querySelectorAll('#losses .readout > *')].map((each) => each.textContent)")
    assert told[0] == "step 3" and len(told) == 3
    assert told[1].endswith("at step 2") and "at step" not in told[2]


def test_the_page_of_a_run_that_goes_on_looks_again(page, run):
    path = run / "report.html"
    with ExitStack() as held:
        held.enter_context(run_lock(run / "lock"))
        path.write_text(report_page([read_record(run)], written=datetime.now(timezone.utc)))
        page.open(path, width=400, scheme="dark")
        assert "looks again every 20 s" in page.run("document.querySelector('header').innerText")
    write_report([run])
    page.events.clear()
    page.run("{ const now = Date.now; Date.now = () => now() + 25_000; }")  # milliseconds: time has passed
    page.wait_for("Page.loadEventFired")
    said = page.run("document.querySelector('header').innerText")
    assert "finished after step 2 of 2" in said and "looks again" not in said
    assert page.complaints == []
