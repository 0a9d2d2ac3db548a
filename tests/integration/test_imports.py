"""The dependency direction: libraries know nothing of experiments."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = Path(__file__).resolve().parents[2] / "packages"
LIBRARY_OF_RLKL = [  # these build on transformers
    "rlkl",
    "rlkl.tasks.registry",
    "rlkl.tasks.addition",
    "rlkl.tasks.subtraction",
    "rlkl.tasks.multiplication",
    "rlkl.tasks.tokenizer",
    "rlkl.certainty",
    "rlkl.kl",
    "rlkl.weighting",
    "rlkl.penalty",
    "rlkl.rollout.decoders",
    "rlkl.rollout.engine",
    "rlkl.model.sequences",
    "rlkl.analysis.critical_tokens",
    "rlkl.analysis.comma_probabilities",
    "rlkl.model.actor_critic",
    "rlkl.algorithms.a2c",
    "rlkl.model.language_model",
    "rlkl.model.texts",
    "rlkl.model.completion",
    "rlkl.analysis.certainty_gaps",
    "rlkl.analysis.drift",
    "rlkl.analysis.detection",
    "rlkl.analysis.counterfactual",
    "rlkl.report.scratchpad_view",
]
TENSORS_ONLY = [
    "rlkl.certainty",
    "rlkl.kl",
    "rlkl.weighting",
    "rlkl.distributions",
    "rlkl.tasks.registry",
    "rlkl.tasks.addition",
    "rlkl.analysis.critical_tokens",
    "rlkl.algorithms.a2c",
    "rlkl.algorithms.ppo",
    "rlkl.algorithms.grpo",
    "rlkl.algorithms.rloo",
]
LIBRARY = [
    "htc",
    "htc.labels.hierarchy",
    "htc.labels.taxonomy",
    "htc.labels.names",
    "htc.losses",
    "htc.decoding.rules",
    "htc.decoding.expected",
    "htc.decoding.by_name",
    "htc.settings",
    "htc.labels.distances",
    "htc.metrics",
    "htc.labels.label_sets",
    "htc.scoring.error_analysis",
    "htc.estimator",
    "htc.models.classifier",
    "htc.scoring.evaluate_rules",
    "htc.datasets",
]


EXPERIMENTS = {"hydra", "omegaconf", "wandb", "common", "accelerate"}


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        (LIBRARY, EXPERIMENTS | {"transformers"}),
        (LIBRARY_OF_RLKL, EXPERIMENTS - {"accelerate"}),  # which transformers loads by itself
        (TENSORS_ONLY, EXPERIMENTS | {"transformers"}),
    ],
    ids=["htc", "rlkl", "rlkl's tensors"],
)
def test_library_modules_load_neither_hydra_nor_wandb(modules, unwanted):
    code = (
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
        f"found = {unwanted!r} & set(sys.modules)\n"
        "sys.exit(f'loaded: {found}' if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def imported_packages(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize(("package", "forbidden"), [("common", {"htc", "rlkl"}), ("htc", {"rlkl"}), ("rlkl", {"htc"})])
def test_packages_point_one_way(package, forbidden):
    files = list((PACKAGES / package / "src").rglob("*.py"))
    assert files
    for file in files:
        assert not forbidden & set(imported_packages(file)), file
