"""Notebooks print what they show, formulas of the pages can be drawn, and the gallery has a figure of every report."""

import json
import re

import pytest
from docutils.utils.math.latex2mathml import tex2mathml
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin

from .notebooks import EXAMPLES, NOTEBOOKS, code_cells, printed, read, run
from .test_docs import DOCS, EVERY_PAGE, ROOT, TEXTS
from .test_tutorials import shape

EVERY_NOTEBOOK = pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
FORMULAS = {"math_inline", "math_block", "math_inline_double"}


def formulas(text):
    """The formulas of a page."""
    tokens = MarkdownIt().enable("table").use(dollarmath_plugin).parse(text)
    found = [inner for token in tokens for inner in (token, *(token.children or ()))]
    return [token.content for token in found if token.type in FORMULAS]


@EVERY_NOTEBOOK
def test_a_notebook_prints_what_it_shows(file, tmp_path):
    notebook = read(file)
    for cell, output in zip(code_cells(notebook), run(notebook, tmp_path), strict=True):
        assert shape(output) == shape(printed(cell)), "".join(cell["source"])


@EVERY_NOTEBOOK
def test_a_notebook_is_one(file):
    notebook = read(file)
    assert file.read_text(encoding="utf-8") == json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    identifiers = [cell["id"] for cell in notebook["cells"]]
    assert len(set(identifiers)) == len(identifiers)
    assert "".join(notebook["cells"][0]["source"]).startswith("# ")
    assert max(len(line) for cell in code_cells(notebook) for line in "".join(cell["source"]).splitlines()) <= 128
    for target in re.findall(r"\]\((\.\./[^)#\s]+)", json.dumps(notebook)):
        assert (EXAMPLES / target).exists(), target


def test_every_notebook_is_in_the_contents():
    assert {file.stem for file in NOTEBOOKS} == set(re.findall(r"^\.\./examples/(\w+)$", TEXTS["tutorials/index.md"], re.M))
    assert (DOCS / "examples").resolve() == EXAMPLES


@EVERY_PAGE
def test_every_formula_can_be_drawn(page):
    for formula in formulas(TEXTS[page]):
        assert tex2mathml(formula).startswith("<math")


def test_formulas_are_found():
    assert len(formulas(TEXTS["explanation/kl_weighting.md"])) > 10
    assert formulas("`$a$` and $b$\n\n```\n$c$\n```\n\n$$\nd\n$$\n") == ["b", "\nd\n"]


def test_the_gallery_has_a_figure_of_every_report():
    shown = re.findall(r"^```{figure} \.\./(results/(\S+)/\w+\.svg)$", TEXTS["gallery.md"], flags=re.M)
    assert all((ROOT / file).exists() for file, _ in shown)
    reports = {file.parent.name for file in (ROOT / "results").glob("*/report.html")}
    assert {folder for _, folder in shown} | {"rlkl-analysis-prioritized"} == reports
