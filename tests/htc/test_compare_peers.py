"""`benchmarks.peers`: equal tries for everyone, the choice on dev, adapters on a toy hierarchy, and the tables."""

import json

import pytest
from benchmarks.peers import __main__ as command
from benchmarks.peers.cells import chosen, toy, tries_of
from benchmarks.peers.features import SPLITS, Problem, file_of
from benchmarks.peers.methods import METHODS, has_one_path
from benchmarks.peers.report import NOT_FOR, method_table, verdict, verdict_table, write

NEEDS = {"hiclass": "hiclass", "LibMultiLabel": "libmultilabel"}
EVERY_METHOD = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)


def several_paths() -> Problem:
    """The toy with a second path for one document."""
    problem = toy()
    targets = problem.targets["train"].clone()
    targets[5] |= targets[0]
    return Problem(problem.hierarchy, problem.features, dict.fromkeys(SPLITS, targets))


def paths_that_end_early() -> Problem:
    """The toy with documents of a top label alone."""
    problem = toy()
    targets = problem.targets["train"].clone()
    alike = (targets == targets[0]).all(1)
    targets[alike] = targets[0] & (problem.hierarchy.depth == 1)
    return Problem(problem.hierarchy, problem.features, dict.fromkeys(SPLITS, targets))


def test_everyone_has_as_many_tries():
    assert len({len(method.values) for method in METHODS}) == 1
    assert len({method.name for method in METHODS}) == len(METHODS)
    assert all(method.one_path or method.several for method in METHODS)


def test_the_best_on_dev_counts_whatever_test_says():
    tries = [
        {"C": 1.0, "dev_hf1": 0.5, "hf1": 0.9},
        {"C": 10.0, "dev_hf1": 0.6, "hf1": 0.1},
        {"C": 100.0, "dev_hf1": 0.6, "hf1": 0.8},
    ]
    assert chosen(tries)["C"] == 10.0


@EVERY_METHOD
@pytest.mark.parametrize("problem", [toy(), several_paths(), paths_that_end_early()], ids=["one path", "several", "early"])
def test_every_adapter_learns_what_features_give_away(method, problem):
    one_path = has_one_path(problem.targets["train"], problem.hierarchy)
    if not method.decision(one_path):
        pytest.skip(NOT_FOR[one_path])
    if method.library in NEEDS:
        pytest.importorskip(NEEDS[method.library])
    leaf = problem.hierarchy.is_leaf
    tries = tries_of(method.fit, method.values, problem)
    assert [each["C"] for each in tries] == list(method.values)
    goes_on = method.library == "hiclass" and bool((problem.hierarchy.most_specific(problem.targets["train"])[:, ~leaf]).any())
    assert tries[-1]["hf1"] > (0.9 if goes_on or not one_path else 0.99)
    assert all(each["fit_s"] > 0 and each["dev_hf1"] == each["hf1"] for each in tries)


def cell(method: str, split: int, hf1: float, fit_s: float = 1.0, **more) -> dict:
    tried = {"C": 1.0, "dev_hf1": hf1, "hf1": hf1, "exact": hf1, "macro_f1": hf1, "fit_s": fit_s, "predict_s": 0.5}
    where = {"dataset": "icd10cm", "features": "tfidf", "method": method, "split": split, "decision": "argmax"}
    return where | {"tries": [tried], "memory_mb": 100.0} | more


def test_a_row_for_each_method_and_why_there_is_none():
    cells = [cell("htc: leaf softmax", split, 0.5 + split / 100) for split in range(3)]
    cells += [cell("hiclass: per node", split, 0.9) | {"problem": "stopped after 600 s"} for split in range(3)]
    rows = {row[0]: row for row in method_table(cells).rows}
    assert rows["htc: leaf softmax"][2:5] == ["1, 1, 1", "0.510 ± 0.025", "0.510 ± 0.025"]
    assert rows["hiclass: per node"][1] == "stopped after 600 s"
    assert rows["hiclass: per level"][1] == NOT_FOR[False]
    assert rows["htc: BCE"][1] == NOT_FOR[True]
    assert len(rows) == len(METHODS)


@pytest.mark.parametrize(
    ("hf1", "fit_s", "held"), [(0.60, 1.0, "yes"), (0.592, 2.9, "yes"), (0.58, 1.0, "no"), (0.7, 3.1, "no")], ids=str
)
def test_ours_beside_the_best_peer(hf1, fit_s, held):
    cells = [cell("htc: leaf softmax", split, hf1, fit_s) for split in range(3)]
    cells += [cell("htc: conditional softmax", split, hf1 - 0.1) for split in range(3)]
    cells += [cell("hiclass: per node", split, 0.6) for split in range(3)]
    cells += [cell("scikit-learn: LinearSVC", 0, 0.9)]  # it did not end on every split
    table = verdict_table(cells)
    (row,) = table.rows
    assert table.caption.startswith("Ours is the objective and rule with the highest hF1 on dev; the peer is")
    assert (row[1], row[2], row[-1]) == ("htc: leaf softmax", "hiclass: per node", held)
    said, gain = verdict(cells), f"{hf1 - 0.6:+.3f}"
    where = (
        f"in {int(hf1 > 0.6)} of 1 comparisons, significantly in {int(hf1 > 0.6)} (difference {gain} to {gain}, splits: 3). "
    )
    assert said.startswith(f"The estimator's hF1 is above the best other library's {where}")
    assert said.endswith(f"{int(held == 'yes')} of 1 keep all limits of the table.")


def test_what_is_written(tmp_path):
    facts = {"train": 10, "dev": 2, "test": 3, "nodes": 5}
    cells = [cell(method, split, 0.5) for method in ("htc: leaf softmax", "hiclass: per node") for split in range(3)]
    write(tmp_path, {"datasets": {"icd10cm": [facts]}, "versions": {"hiclass": "5.0.8"}, "documents": 10, "cells": cells})
    assert json.loads((tmp_path / "summary.json").read_text())["cells"] == cells
    table = (tmp_path / "table.md").read_text()
    assert "## ICD-10-CM, TF-IDF" in table
    assert "| htc: leaf softmax | argmax |" in table
    assert "hiclass: per node" in (tmp_path / "report.html").read_text()


def test_finished_cells_are_found_again(tmp_path, monkeypatch):
    import joblib
    from benchmarks.peers import cells

    file = file_of(tmp_path, "0123", "tfidf")
    joblib.dump(toy(), file)
    ran = []
    monkeypatch.setattr(
        cells, "run_cell", lambda name, file, limit: ran.append(name) or {"problem": cells.STOPPED.format(limit=limit)}
    )
    settings = command.settings_of(["--output", str(tmp_path)])
    again = command.settings_of(["--output", str(tmp_path), "--limit", "1000"])
    where = {"dataset": "icd10cm", "split": 0, "features": "tfidf"}
    counts = []
    for of, how in (({"data": "a"}, settings), ({"data": "a"}, settings), ({"data": "b"}, settings), ({"data": "b"}, again)):
        ran.clear()
        found = command.cells_of(where, of, file, how)
        counts.append(len(ran))
        assert [each["method"] for each in found] == [method.name for method in METHODS if method.one_path]
    one_path = sum(bool(method.one_path) for method in METHODS)
    assert counts == [one_path, 0, one_path, one_path]
