"""Reports in a real browser: wide and narrow, light and dark, sorted by a click, and with nothing fetched from elsewhere.

The page is new, and those of results/ are of every kind there is: grids of both packages, levels before, analyses.
"""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from htc.report.icicle import icicle
from htc.report.records import Node
from rlkl_htc_common.report.figures import line_with_band, new_figure, picture
from rlkl_htc_common.report.page import First, Picture, Section, Table, write_report
from rlkl_htc_common.report.run_list import ListedRun, runs_section
from rlkl_htc_common.report.styles import Style

from ..browsing import DESK, PHONE, browser, opened

__all__ = ["browser"]  # a fixture

RESULTS = sorted((Path(__file__).resolve().parents[2] / "results").glob("*/report.html"))
ROWS = [
    ["beta 10", "0.804 ± 0.066", "1,024"],
    ["beta 2", "−0.371 ± 0.040", "–"],
    ["beta 1", "+0.996 (95%)", "93"],
    ["none", "–", "7"],
]
OUTSIDE = """() => [...document.querySelectorAll("body *")].filter(part => {
  const scrolls = part.parentElement.closest(".scroll, pre"), inside = part.parentElement.closest("svg");
  const {left, right, width} = part.getBoundingClientRect();
  return !scrolls && !inside && width > 0 && (left < -1 || right > innerWidth + 1);
}).map(part => part.outerHTML.slice(0, 99))"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    figure, axes = new_figure()
    line_with_band(axes, [0, 1, 2], [[0, 1, 2], [1, 2, 2]], "a curve")
    command = "rlkl-finetune " + " ".join(f"penalty.key{i}=value" for i in range(20))
    runs = [
        ListedRun(name=f"run {i}", settings={"seed": i}, metrics={"score": i / 7}, command=command, where=f"runs/{i}")
        for i in range(9)
    ]
    table = Table(["method", "score", "count"], ROWS, "A caption.", best={(0, 1)})
    file = tmp_path_factory.mktemp("report") / "report.html"
    curve = picture(figure, "A curve", "A curve.")
    nodes = [Node("Arts", 1, 0, 0.99, 0.5), Node("Science", 1, 0.99, 0.01, 0.9), Node("Music", 2, 0, 0.5, float("nan"))]
    hierarchy = Picture(icicle(nodes, "Labels", "By F1."), "Labels.", wide=True)
    sections = [Section("Folded", ["A sentence."], [], [curve, hierarchy], folded=True), runs_section(runs)]
    facts, first = [("commit", "0" * 12)], First("A finding.", "A caveat.", curve, table)
    write_report(file, "A report", "What it is about.", sections, facts, first, {"beta 10": Style("#1c6aae")})
    return file


def column(page, number):
    return page.locator(f"table >> nth=0 >> tbody tr td:nth-child({number})").all_inner_texts()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "first", "second"), [(2, [2, 0, 1, 3], [1, 0, 2, 3]), (3, [0, 2, 3, 1], [3, 2, 0, 1])])
def test_a_click_on_a_head_sorts_by_numbers(browser, report, number, first, second):
    page, complaints = opened(browser, report)
    head = page.locator("table >> nth=0 >> th").nth(number - 1)
    for order, state in ((first, "descending"), (second, "ascending"), ([0, 1, 2, 3], None)):
        head.get_by_role("button").click()
        assert column(page, number) == [ROWS[row][number - 1] for row in order]
        assert head.get_attribute("aria-sort") == state
    assert complaints == []


@pytest.mark.slow
def test_the_keyboard_sorts_texts_too(browser, report):
    page, _ = opened(browser, report)
    page.locator("table >> nth=0 >> th button").first.focus()
    page.keyboard.press("Enter")
    assert column(page, 1) == ["beta 1", "beta 10", "beta 2", "none"]


@pytest.mark.slow
def test_the_runs_unfold(browser, report):
    page, _ = opened(browser, report)
    command = page.locator("details code").first
    assert not command.is_visible()
    page.locator("summary", has_text="The 9 runs").click()
    assert command.is_visible()


@pytest.mark.slow
@pytest.mark.parametrize(("size", "is_open"), [(PHONE, False), (DESK, True)], ids=["phone", "desk"])
def test_the_contents_stay_in_view_and_open_parts(browser, report, size, is_open):
    page, complaints = opened(browser, report, size)
    contents, part = page.locator("details.contents"), page.locator("#folded")
    assert contents.evaluate("part => part.open") == is_open
    if not is_open:
        contents.locator("summary").click()
    page.get_by_role("link", name="Folded").click()
    assert part.evaluate("part => part.open")
    page.mouse.wheel(0, 600)
    assert contents.bounding_box()["y"] >= 0
    assert contents.bounding_box()["y"] < 60
    assert contents.evaluate("part => part.open") == is_open
    assert complaints == []


@pytest.mark.slow
def test_the_first_column_stays_while_a_table_scrolls(browser, report):
    page, _ = opened(browser, report, PHONE)
    page.evaluate("document.querySelector('#the-9-runs').open = true")
    scroll = page.locator("#the-9-runs .scroll")
    before = scroll.locator("td").first.bounding_box()["x"]
    scroll.evaluate("part => { part.scrollLeft = 200 }")
    assert scroll.evaluate("part => part.scrollLeft") == 200
    assert scroll.locator("td").first.bounding_box()["x"] == pytest.approx(before, abs=1)


@pytest.mark.slow
def test_a_pointer_gets_notes_and_a_click_widens_a_label(browser, report):
    page, complaints = opened(browser, report, DESK)
    figure = page.locator("#the-finding svg[role=img]")
    box, (x, y, said) = figure.bounding_box(), figure.evaluate("part => JSON.parse(part.dataset.notes)[1]")
    scale = box["width"] / figure.evaluate("part => part.viewBox.baseVal.width")
    page.mouse.move(box["x"] + x * scale, box["y"] + y * scale)
    assert page.locator("#note").inner_text() == said == "a curve: 1.5 at 1"
    page.evaluate("document.querySelector('#folded').open = true")
    science, arts = (page.locator(".icicle rect").nth(number) for number in (1, 0))
    assert page.locator(".icicle title").nth(3).text_content() == "Music: neither true nor predicted"
    narrow = science.bounding_box()["width"]
    science.click()
    assert science.bounding_box()["width"] == pytest.approx(100 * narrow, rel=0.02)
    assert page.locator(".icicle text", has_text="Science").count() == 1
    assert arts.bounding_box() is None or arts.bounding_box()["width"] == 0
    science.click()
    assert science.bounding_box()["width"] == pytest.approx(narrow, rel=0.02)
    assert complaints == []


@pytest.mark.slow
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("place", ["new", *(file.parent.name for file in RESULTS)])
def test_pages_fit_their_screen(browser, report, place, scheme, size, tmp_path):
    file = report if place == "new" else next(file for file in RESULTS if file.parent.name == place)
    page, complaints = opened(browser, file, size, scheme)
    assert complaints == [], "a page brings all it needs"
    for part in ("as it opens", "unfolded"):
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], f"only tables scroll to the side, {part}"
        assert page.evaluate(OUTSIDE) == [], part
        page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
    page.reload()
    picture = tmp_path / "page.png"
    page.screenshot(path=picture)
    pixels = imread(picture)[..., :3]  # (height, width, 3), from 0 to 1
    background, ink = np.median(pixels), pixels.min() if scheme == "light" else pixels.max()
    assert background > 0.95 if scheme == "light" else background < 0.15
    assert abs(ink - background) > 0.7, "text stands out"
