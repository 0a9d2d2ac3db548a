"""Figures say what they are, in light and dark, stay in their range, and fit what most of their points show."""

import json
import re
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import pytest

from rlkl_htc_common.report.figures import (
    MOST_BANDS,
    dots,
    line_with_band,
    line_with_interval,
    new_figure,
    picture,
    spread_out,
    without_outliers,
)
from rlkl_htc_common.report.statistics import Interval, bootstrap, over_seeds, share_over_seeds
from rlkl_htc_common.report.styles import DARK, Style, category
from rlkl_htc_common.report.svg import dark_rules, to_svg

ROOT = Path(__file__).parents[3]
STYLE = Style(category(0), "--")
EVIL = 'a "b" <i>\'&$x$'


def drawn(name="curve", values=((0, 1, 2), (1, 2, 2))):
    figure, axes = new_figure()
    line_with_band(axes, [0, 1, 2], values, name, STYLE)
    return figure


def test_a_figure_is_one_well_formed_image_with_text():
    shown = picture(drawn(EVIL), EVIL, f"What {EVIL} shows.")
    for svg, alone in ((shown.svg, False), (shown.file, True)):
        root = ElementTree.fromstring(svg)
        assert root.attrib["role"] == "img"
        assert root.attrib["aria-label"] == EVIL
        assert [root[0].text, root[1].text] == [EVIL, f"What {EVIL} shows."]
        assert ("prefers-color-scheme:dark" in svg) == alone
        assert ("data-notes" in svg) != alone
    notes = json.loads(unescape(re.search('data-notes="(.*?)"', shown.svg)[1]))
    assert [note[2] for note in notes] == [f"{EVIL}: 0.5 at 0", f"{EVIL}: 1.5 at 1", f"{EVIL}: 2 at 2"]
    x, y = zip(*(note[:2] for note in notes), strict=True)
    assert list(x) == sorted(x)
    assert list(y) == sorted(y, reverse=True)


def test_a_file_has_a_legend_and_a_page_one_for_all():
    figure = drawn("one")
    line_with_band(figure.axes[0], [0, 1, 2], [[3, 4, 5]], "another")
    shown = picture(figure, "t", "c")
    assert (">another<" in shown.svg, ">another<" in shown.file) == (False, True)
    assert figure.legends == []


def test_every_colour_of_a_figure_has_one_for_the_dark():
    svg = to_svg(drawn())
    colors = set(re.findall(r"(?:fill|stroke):(#\w{6})", svg))
    assert {STYLE.color} < colors <= set(DARK)
    rules = dark_rules(svg)
    assert all(f'"stroke:{color}"' not in rules or DARK[color] in rules for color in colors)
    assert dark_rules("") == ""


def test_ids_refer_to_something():
    svg = to_svg(drawn())
    assert set(re.findall(r' id="(.*?)"', svg)) == set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))


@pytest.mark.parametrize(
    "values", [[1, 1, 0.95], [0.0, 0.02, 0.0, 0.1], [0.5, 0.6, 0.7], [1.0] * 4, [0.2, 0.9], [0, 1, 1, 0, 1]]
)
def test_intervals_of_shares_stay_in_their_range(values):
    found, student = share_over_seeds(values), over_seeds(values)
    assert found.mean == pytest.approx(student.mean)
    if student.few:
        assert str(found) == str(student)
    elif student.low >= 0 and student.high <= 1:
        assert found == student
    else:
        assert 0 <= found.low <= found.mean <= found.high <= 1
        assert found == bootstrap(values)._replace(lopsided=True)
        assert str(found) == f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"


def test_one_outlier_does_not_stretch_an_axis():
    points = [(x, Interval(0.9 + x / 1000, 0.89, 0.92, 3), "good", STYLE) for x in range(9)]
    figure, axes = new_figure()
    axes.plot([x for x, *_ in points], [each.mean for _, each, *_ in points])
    before = axes.get_ylim()
    assert not without_outliers(axes, points)
    assert axes.get_ylim() == before
    assert without_outliers(axes, [*points, (9, Interval(0.2, 0.1, 0.3, 3), "bad", STYLE)])
    low, high = axes.get_ylim()
    assert 0.85 < low < 0.89
    assert 0.92 < high < 0.95
    assert ">0.20<" in to_svg(figure)


def test_what_is_far_above_most_gets_a_logarithmic_axis():
    for values, scale in (([1, 2, 3, 4], "linear"), ([1, 1, 2, 900], "log"), ([0, 0, 0, 0], "linear"), ([0, 1, 1, 90], "log")):
        _, axes = new_figure()
        axes.plot(range(4), values)
        spread_out(axes)
        assert axes.get_yscale() == scale


def test_bands_are_left_out_where_they_hide_each_other():
    for lines, bands in ((MOST_BANDS, 1), (MOST_BANDS + 1, 0)):
        _, axes = new_figure()
        line_with_interval(axes, [0, 1], [Interval(0.5, 0.4, 0.6, 3)] * 2, "a", STYLE, of=lines)
        assert len(axes.collections) == bands


def test_a_row_of_dots_for_each_method():
    few = share_over_seeds([0.2, 0.4])
    figure = dots({"a $b": (few, [0.2, 0.4]), "c": (over_seeds([0.5, 0.6, 0.7]), [0.5, 0.6, 0.7])}, {"c": STYLE}, "accuracy")
    svg = to_svg(figure)
    assert ">a $b<" in svg
    assert "a $b: 0.200, 0.400" in svg


@pytest.mark.parametrize("page", sorted((ROOT / "results").glob("*/report.html")), ids=lambda page: page.parent.name)
def test_every_figure_of_a_published_report_has_text(page):
    images = re.findall(r"<svg [^>]*role=\"img\"[^>]*>(.{0,400})", page.read_text(), flags=re.DOTALL)
    labels = re.findall(r"<svg [^>]*role=\"img\" aria-label=\"[^\"]+\"", page.read_text())
    assert len(images) == len(labels) > 0
    assert all(re.match("<title>[^<]+</title><desc>[^<]+</desc>", image) for image in images)
    for file in page.parent.glob("*.svg"):
        assert ElementTree.parse(file).getroot().attrib["aria-label"]
