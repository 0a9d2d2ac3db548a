"""What README.md, the packages' READMEs and docs/how-to/python.md show is run or compared with the results.

tests/docs runs the README's `sh` blocks and composes its commands; tests/rlkl/integrations runs what needs TRL.
"""

import ast
import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = (ROOT / "docs/how-to/python.md").read_text(encoding="utf-8")
TREE = (ROOT / "docs/reference/files.md").read_text(encoding="utf-8")
OF_PACKAGES = {file.parent.name: file.read_text(encoding="utf-8") for file in (ROOT / "packages").glob("*/README.md")}
LINK = re.compile(r"\]\(([^)\s]+)\)")


def examples(text):
    """The names that each Python example leaves behind."""
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        if "rlkl.integrations" not in block:
            names: dict[str, object] = {}
            exec(block, names)
            yield names


def rows_of(text):
    """The cells of each table: a list of rows for each, headings first."""
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        yield [
            [cell.strip().strip("*") for cell in line.strip("|").split("|")]
            for line in table.splitlines()
            if not re.fullmatch(r"[|:-]+", line)
        ]


def results(folder, column):
    """The main table of a report. Returns: row -> its cell in a column."""
    ((head, *rows),) = rows_of((ROOT / "results" / folder / "table.md").read_text(encoding="utf-8"))
    return {row[0]: row[head.index(column)] for row in rows}


def best(cells, method):
    """The cell with the highest mean among those of a method, at any alpha."""
    return max((cell for name, cell in cells.items() if name.split(",")[0] == method), key=lambda cell: float(cell[:5]))


def test_the_readme_is_short():
    assert len(README.split()) <= 900


@pytest.mark.parametrize("text", [README, OF_PACKAGES["htc"]], ids=["README", "htc"])
def test_the_estimator_predicts_what_is_shown(text):
    estimator = next(examples(text))
    (comment,) = re.findall(r"the violin is sung.*# (.*)", text)
    assert estimator["model"].predict(["the violin is sung"]) == ast.literal_eval(comment)
    assert estimator["model"].score(estimator["texts"], estimator["labels"]) == 1


def test_the_penalty_has_a_gradient():
    _, penalty = examples(README)
    assert penalty["log_probs"].grad.isfinite().all()
    assert penalty["log_probs"].grad.abs().sum() > 0


def test_the_python_page_runs():
    names, estimator = examples(PYTHON)
    assert names["hierarchy"].is_coherent(names["predictions"]).all()
    assert names["logits"].grad.abs().sum() > 0
    assert names["hierarchy"].is_coherent(names["best"]).all()
    assert torch.equal(names["targets"].sum(1), torch.tensor([2, 2]))
    assert estimator["model"].predict(["the violin is sung"]) == [[("Arts", "Music")]]


@pytest.mark.parametrize("package", OF_PACKAGES)
def test_the_examples_of_packages_run(package):
    assert all(examples(OF_PACKAGES[package]))


def test_the_losses_have_the_numbers_of_their_reports():
    (_, *rows), _, _ = rows_of(README)
    for column, folder in enumerate(("htc-icd10cm", "htc-hwv", "htc-hwv-finetuned"), start=1):
        measured = results(folder, "threshold 0.5")
        assert {row[0]: row[column] for row in rows} == {row[0]: measured[row[0]] for row in rows}, folder


def test_the_comparison_with_other_libraries_has_the_numbers_of_its_report():
    _, (_, *rows), _ = rows_of(README)
    (_, *compared), *tables = rows_of((ROOT / "results/htc-peers/table.md").read_text(encoding="utf-8"))
    measured = {}
    for (where, ours, peer, *_), (head, *methods) in zip(compared, tables, strict=True):
        hf1 = {name: cells[head.index("hF1") - 1].strip("*").split()[0] for name, *cells in methods}
        measured.setdefault(where.rpartition(", ")[2], []).append(f"{hf1[ours]}, {hf1[peer]}")
    assert {features: cells for features, *cells in rows} == measured


def test_the_penalties_have_the_numbers_of_their_reports():
    _, _, (_, additions, *others) = rows_of(README)
    measured = results("rlkl-penalties", "N+1 accuracy")
    assert additions[1:] == [measured[name] for name in ("before", "no KL", "standard KL", "prioritized KL")]
    for task, *cells in others:
        measured = results(f"rlkl-{task.removesuffix('s')}", "N+1 accuracy")
        assert cells == [best(measured, name) for name in ("before", "none", "standard", "prioritized")], task


@pytest.mark.parametrize("target", sorted(set(re.findall(r"make ([a-z-]+)", README))))
def test_every_make_target_exists(target):
    assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)


@pytest.mark.parametrize("link", sorted(set(LINK.findall(README))))
def test_every_link_leads_somewhere(link):
    if not link.startswith("http"):
        file, _, heading = link.partition("#")
        text = (ROOT / file).read_text(encoding="utf-8")
        headings = [re.sub(r"\]\([^)]*\)", "", title) for title in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)]
        assert not heading or heading in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in headings}


@pytest.mark.parametrize("package", OF_PACKAGES)
def test_no_link_of_a_package_is_relative(package):
    assert [link for link in LINK.findall(OF_PACKAGES[package]) if not link.startswith("https://")] == []


def test_the_tree_names_real_files():
    files = set(re.findall(r"\w+\.py", TREE))
    present = {file.name for file in (ROOT / "packages").rglob("*.py")}
    assert files
    assert files <= present


def test_the_tree_shows_every_room():
    libraries = re.findall(r"^(packages/\S+/)\s[^\n]*\n((?:  [^\n]*\n)+)", TREE, flags=re.MULTILINE)
    assert len(libraries) == 3
    for library, rooms in libraries:
        named = set(re.findall(r"^  (\w+)/", rooms, flags=re.MULTILINE))
        there = {folder.name for folder in (ROOT / library).iterdir() if folder.is_dir()}
        assert there - {"conf", "__pycache__"} == named
