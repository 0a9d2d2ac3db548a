"""The dependency direction: libraries know nothing of experiments, and nothing imports in a circle."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGES = Path(__file__).resolve().parents[2] / "packages"
NAMES = {"rlkl_htc_common": "common", "htc": "htc", "rlkl": "rlkl"}
EXPERIMENTS = {"hydra", "omegaconf", "wandb", "matplotlib"}
ROOMS_OF_EXPERIMENTS = {
    "htc": ("batches", "commands", "demo", "experiment", "predictor", "report", "training"),
    "rlkl": ("commands", "report", "integrations"),
}
WITH_A_MODEL = (
    "model",
    "rollout",
    "finetuning",
    "analysis",
    "inspection",
    "tasks.tokenizer",
)  # of rlkl; the rest is tensors alone


def source(package):
    return PACKAGES / NAMES[package] / "src" / package


def modules(package):
    """Every module of a package, by its dotted name."""
    found = {}
    for file in source(package).rglob("*.py"):
        parts = file.relative_to(source(package).parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def library(package):
    apart = tuple(f"{package}.{room}" for room in ROOMS_OF_EXPERIMENTS[package])
    return sorted(name for name in modules(package) if not name.startswith(apart))


LIBRARY_OF_RLKL = library("rlkl")
TENSORS = [name for name in LIBRARY_OF_RLKL if not name.startswith(tuple(f"rlkl.{room}" for room in WITH_A_MODEL))]


@pytest.mark.parametrize(
    ("names", "unwanted"),
    [
        (library("htc"), EXPERIMENTS | {"transformers", "accelerate"}),
        (LIBRARY_OF_RLKL, EXPERIMENTS),
        (TENSORS, EXPERIMENTS | {"transformers", "accelerate"}),
    ],
    ids=["htc", "rlkl", "rlkl's tensors"],
)
def test_library_modules_load_neither_hydra_nor_wandb(names, unwanted):
    assert len(names) > 20
    code = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
        f"found = {unwanted!r} & set(sys.modules)\n"
        "sys.exit(f'loaded: {found}' if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_short_names_stay():
    code = (
        "import rlkl.addition, rlkl.rollout, rlkl.certainty, rlkl.kl, rlkl.weighting\n"
        "import htc, htc.losses, htc.decoding, htc.metrics\n"
        "from rlkl.tasks import addition\n"
        "assert rlkl.addition is addition and callable(rlkl.rollout.generate) and htc.Hierarchy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def imported(file, known=frozenset()):
    """What a file imports when it is imported: not what stands in functions. Args: known: modules, which are taken for such."""
    todo = list(ast.parse(file.read_text(encoding="utf-8")).body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from names if set(names) <= set(known) else [node.module, *names]
        elif isinstance(node, ast.If | ast.Try):
            todo += [each for each in ast.iter_child_nodes(node) if isinstance(each, ast.stmt)]


@pytest.mark.parametrize(("package", "forbidden"), [("rlkl_htc_common", {"htc", "rlkl"}), ("htc", {"rlkl"}), ("rlkl", {"htc"})])
def test_packages_point_one_way(package, forbidden):
    for file in modules(package).values():
        assert not forbidden & {name.split(".")[0] for name in imported(file)}, file


@pytest.mark.parametrize("package", NAMES)
def test_nothing_imports_in_a_circle(package):
    known = modules(package)
    TopologicalSorter(
        {name: {each for each in imported(file, known) if each in known} - {name} for name, file in known.items()}
    ).prepare()


@pytest.mark.parametrize("package", NAMES)
def test_rooms_do_not_import_each_other(package):
    """Neither do the rooms, taken as a whole: each stands on a floor of its own."""

    def room(name):
        parts = name.split(".")
        folder = source(package).joinpath(*parts[1:2])
        return parts[1] if len(parts) > 1 and folder.is_dir() else name

    known, rooms = modules(package), {}
    for name, file in known.items():
        rooms.setdefault(room(name), set()).update(room(each) for each in imported(file, known) if each in known)
    TopologicalSorter({name: others - {name, package} for name, others in rooms.items()}).prepare()
