"""What the README shows is run, so that it stays true."""

import ast
import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def run_examples():
    """The names that each Python example leaves behind."""
    for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL):
        names: dict[str, object] = {}
        exec(block, names)
        yield names


def test_the_python_examples_run():
    names, estimator, penalty = run_examples()
    assert penalty["logits"].grad[penalty["mask"]].abs().sum() > 0
    assert not penalty["logits"].grad[~penalty["mask"]].any()
    assert names["hierarchy"].is_coherent(names["predictions"]).all()
    assert names["logits"].grad.abs().sum() > 0
    assert names["hierarchy"].is_coherent(names["best"]).all()
    (comment,) = re.findall(r"the violin is sung.*# (.*)", README)
    assert estimator["model"].predict(["the violin is sung"]) == ast.literal_eval(comment)
    assert estimator["model"].score(estimator["texts"], estimator["labels"]) == 1
    assert torch.equal(names["targets"].sum(1), torch.tensor([2, 2]))


@pytest.mark.parametrize("target", sorted(set(re.findall(r"make ([a-z-]+)", README))))
def test_every_make_target_exists(target):
    assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", README))))
def test_every_link_leads_somewhere(link):
    assert (ROOT / link).exists()


def test_the_tree_names_real_files():
    (tree,) = re.findall(r"## What is where\n\n```\n(.*?)```", README, flags=re.DOTALL)
    files = set(re.findall(r"\w+\.py", tree))
    present = {file.name for file in (ROOT / "packages").rglob("*.py")}
    assert files
    assert files <= present


def test_the_tree_shows_every_room():
    (tree,) = re.findall(r"## What is where\n\n```\n(.*?)```", README, flags=re.DOTALL)
    libraries = re.findall(r"^(packages/\S+/)\s[^\n]*\n((?:  [^\n]*\n)+)", tree, flags=re.MULTILINE)
    assert len(libraries) == 3
    for library, rooms in libraries:
        named = set(re.findall(r"^  (\w+)/", rooms, flags=re.MULTILINE))
        there = {folder.name for folder in (ROOT / library).iterdir() if folder.is_dir()}
        assert there - {"conf", "__pycache__"} == named
