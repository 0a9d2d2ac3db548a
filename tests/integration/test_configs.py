"""Every config composes against its schema, and none holds a key that its schema does not know."""

import dataclasses
import os
import re
import subprocess
import sys
from functools import partial

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue

import htc.commands.train
import htc.experiment.config
import rlkl.commands.config
import rlkl.commands.finetune
from htc.settings import MODELS, OBJECTIVES
from rlkl.commands.finetune import identity, settings_of
from rlkl.commands.reproduce import axis_of, check_grid, check_runs
from rlkl.model.completion import check_positions
from rlkl.model.language_model import packaged_models
from rlkl.settings import AlgorithmSettings, PenaltySettings
from rlkl.tasks.registry import task_named
from rlkl_htc_common.cli.plain_text import text_keys
from rlkl_htc_common.commands.repository import texts_are_no_groups
from rlkl_htc_common.errors import InputError

from .grids import CONF, GRIDS, grid_of

HTC = {
    "train": htc.experiment.config.TrainConfig,
    "evaluate": htc.experiment.config.EvaluateConfig,
    "predict": htc.experiment.config.PredictConfig,
    "demo": htc.experiment.config.DemoConfig,
    "reproduce": htc.experiment.config.ReproduceConfig,
}
RLKL = {
    "pretrain": rlkl.commands.config.PretrainConfig,
    "finetune": rlkl.commands.config.FinetuneConfig,
    "evaluate": rlkl.commands.config.EvaluateConfig,
    "analyze": rlkl.commands.config.AnalyzeConfig,
    "inspect": rlkl.commands.config.InspectConfig,
    "reproduce": rlkl.commands.config.ReproduceConfig,
    "reproduce_llm": rlkl.commands.config.ReproduceLLMConfig,
}
APPLICATIONS = [(package, name) for package, names in (("htc", HTC), ("rlkl", RLKL)) for name in names]
SCHEMAS = {"htc": HTC, "rlkl": RLKL}
# of rlkl
USED_BY = {
    "architecture": "pretrain",
    "training": "pretrain",
    "penalty": "finetune",
    "algorithm": "finetune",
    "llm": "reproduce_llm",
}
CHOICES = [
    (package, group.name, file.stem)
    for package in SCHEMAS
    for group in (CONF / package).iterdir()
    if group.is_dir() and group.name != "hydra"
    for file in sorted(group.glob("*.yaml"))
]
EXPERIMENTS = sorted(CONF.glob("*/experiment/*.yaml"))
FILL = {"dataset.dir": "folder", "dataset.file": "table.csv", "model": "folder"}


def composed(package, application, *overrides):
    {"htc": htc.experiment.config, "rlkl": rlkl.commands.config}[package].register()
    with initialize_config_dir(str(CONF / package), version_base="1.3"):
        return compose(application, list(overrides))


def typed(config):
    for key, value in FILL.items():
        if OmegaConf.is_missing(OmegaConf.select(config, key.rpartition(".")[0]) or config, key.rpartition(".")[2]):
            OmegaConf.update(config, key, value)
    return OmegaConf.to_object(config)


def application_of(package, group, choice):
    if group == "experiment":
        return "pretrain" if choice.startswith("pretrain") else "reproduce"
    if group == "profile":
        return "reproduce"
    return "train" if package == "htc" else USED_BY[group]


@pytest.mark.parametrize("package", SCHEMAS)
def test_every_application_has_its_config(package):
    shared = {"classifier"} if package == "htc" else {"finetuning", "steps"}
    assert {file.stem for file in (CONF / package).glob("*.yaml")} == {*SCHEMAS[package], *shared}


@pytest.mark.parametrize(("package", "application"), APPLICATIONS)
def test_applications_compose(package, application):
    assert isinstance(typed(composed(package, application)), SCHEMAS[package][application])


@pytest.mark.parametrize(("package", "group", "choice"), CHOICES)
def test_every_choice_composes(package, group, choice):
    config = typed(composed(package, application_of(package, group, choice), f"{group}={choice}"))
    if group in ("dataset", "loss", "encoder", "model"):
        assert getattr(config, group).name
    if package == "htc" and hasattr(config, "model"):
        htc.commands.train.check(config)
    for part, settings in (("training", None), ("penalty", PenaltySettings), ("algorithm", AlgorithmSettings)):
        if hasattr(config, part):
            chosen = getattr(config, part)
            (chosen if settings is None else settings(**vars(chosen))).check()


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: f"{file.parents[1].name}-{file.stem}")
def test_an_experiment_begins_with_the_command_that_runs_it(file):
    first, second = file.read_text().splitlines()[:2]
    assert first == "# @package _global_"
    assert second.startswith(("# make ", "# htc-reproduce", "# rlkl-reproduce", "# rlkl-pretrain"))


def test_a_trained_encoder_brings_its_recipe():
    assert typed(composed("htc", "train", "encoder=minilm")).training.batch_size == 16
    assert typed(composed("htc", "train", "encoder=minilm", "training=frozen_many")).training.batch_size == 256


MANY = {"attack", "bgc", "gene_ontology", "icd10cm", "rcv1", "wordnet", "wos"}  # datasets of tens of thousands of documents


@pytest.mark.parametrize("command", ["train", "reproduce"])
@pytest.mark.parametrize("dataset", [file.stem for file in sorted((CONF / "htc/dataset").glob("*.yaml"))])
def test_a_frozen_encoder_takes_the_recipe_of_the_dataset(command, dataset):
    chosen = [f"dataset={dataset}", *(["experiment=icd10cm"] if command == "reproduce" else [])]
    for encoder in ("minilm_frozen", "minilm", "bert"):
        training = composed("htc", command, *chosen, f"encoder={encoder}").training
        of_frozen = (8, 256, 2e-3) if dataset in MANY else (40, 16, 1e-3)
        expected = of_frozen if encoder == "minilm_frozen" else (20, 16, 1e-3)
        assert (training.epochs, training.batch_size, training.learning_rate) == expected


@pytest.mark.parametrize(("above", "epochs"), [("custom_schema", 40), ("table", 40), ("wos", 8)])
def test_a_dataset_of_your_own_needs_no_recipe(above, epochs, tmp_path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset/mine.yaml").write_text(f"defaults: [{above}, _self_]\nname: mine\n")
    path = f"hydra.searchpath=[file://{tmp_path}]"
    assert composed("htc", "train", "dataset=mine", path).training.epochs == epochs
    assert composed("htc", "evaluate", "dataset=mine", path).dataset.name == "mine"


PAPERS_CODE = {"champ": {"loss.reduction": "sum"}, "conditional_softmax_la": {"loss.priors": "counts"}}
"""Where the public code of the paper has another form, the paper's experiments have that; else they name choices."""


@pytest.mark.parametrize("file", sorted((CONF / "htc").glob("experiment/*.yaml")), ids=lambda file: file.stem)
def test_methods_of_experiments_are_choices_of_the_loss_and_model_groups(file):
    config, _, runs = grid_of("htc", f"experiment={file.stem}")
    theirs = PAPERS_CODE if file.stem.startswith("paper_") else {}
    for name, settings in config.methods.items():
        if "model" in settings:
            assert name.startswith(settings["model"])
        else:
            longer = {"training.epochs": 5 * config.training.epochs} if name.endswith("_longer") else {}
            assert settings == {"loss": name.removesuffix("_longer")} | longer | theirs.get(name, {})
    for run in runs.values():
        htc.commands.train.check(run)


def test_a_choice_of_a_loss_holds_just_what_it_reads():
    for name, entry in OBJECTIVES.items():
        loss = typed(composed("htc", "train", f"loss={name}")).loss
        assert {each.name for each in dataclasses.fields(loss)} == {"name", *entry.reads}
    assert {file.stem for file in (CONF / "htc/loss").glob("*.yaml")} == {*OBJECTIVES, "auto"}


def test_a_choice_of_a_model_holds_just_what_it_reads():
    for name, entry in MODELS.items():
        model = typed(composed("htc", "train", f"model={name}")).model
        assert {each.name for each in dataclasses.fields(model)} == {"name", *entry.reads}
    assert {file.stem for file in (CONF / "htc/model").glob("*.yaml")} == {*MODELS}


@pytest.mark.parametrize(
    ("given", "encoder", "training"),
    [
        (["model=flat"], "minilm_frozen", "frozen_many"),
        (["model=hitin"], "minilm_frozen", "frozen_many"),
        (["model=hitin", "encoder=minilm"], "minilm", "finetune_hitin"),
        (["model=hgclr"], "minilm", "finetune_hgclr"),
        (["model=hbgl"], "minilm", "finetune_hbgl"),
        (["model=hgclr", "encoder=bert"], "bert", "paper_hgclr"),
        (["model=hbgl", "training=finetune"], "minilm", "finetune"),
    ],
)
def test_a_model_and_its_encoder_bring_a_recipe(given, encoder, training):
    htc.experiment.config.register()
    with initialize_config_dir(str(CONF / "htc"), version_base="1.3"):
        choices = compose("train", given, return_hydra_config=True).hydra.runtime.choices
        assert (choices["encoder"], choices["training"]) == (encoder, training)
        told = ["profile=paper", "experiment=paper_wos", "dataset.dir=folder", given[0]]
        choices = compose("reproduce", told, return_hydra_config=True).hydra.runtime.choices
        assert (choices["encoder"], choices["training"]) == ("bert", f"paper_{given[0].partition('=')[2]}")


@pytest.mark.parametrize("application", ["predict", "evaluate"])
def test_where_a_key_is_a_text_it_is_no_choice_of_a_group(application):
    htc.experiment.config.register()
    here = partial(initialize_config_dir, str(CONF / "htc"), version_base="1.3")
    with texts_are_no_groups(text_keys(HTC[application])), here():
        assert compose(application, ["model=flat"]).model == "flat"
        assert compose(application, ["model='runs/htc/a b/model'"]).model == "runs/htc/a b/model"
    with here():
        assert compose("train", ["model=hitin"]).model.height == 2


def test_schemas_are_there_before_torch():
    code = "import sys, htc.experiment.config as c; c.register(); sys.exit(str({'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "set()"


RLKL_GRIDS = sorted(name for package, name in GRIDS if package == "rlkl")
SMALL_ONLY = {
    "successes",
    "levels",
    "levels_before",
    "tasks",
    "subtraction",
    "multiplication",
}  # what compares models of its own


@pytest.mark.parametrize("experiment", RLKL_GRIDS)
def test_every_grid_of_rlkl_can_be_run(experiment):
    config, _, runs = grid_of("rlkl", f"experiment={experiment}")
    assert config.output.endswith("-paper") == experiment.endswith("_paper")
    check_grid(config, [])
    check_runs(config, runs)
    axis_of(config.axis, runs)
    if not experiment.endswith("_paper"):
        assert {*config.models, *(run.model for run in runs.values())} <= set(packaged_models())


@pytest.mark.parametrize(
    "conditions",
    [
        "{rare: {prioritized: [prioritized]}}",
        "{rare: {prioritized: [prioritized], standard: []}}",
        "{rare: {prioritized: [prioritized], standard: [other]}}",
        "{rare: {prioritized: [prioritized], standard: [standard]}, often: {one: [prioritized], two: [standard]}}",
    ],
)
def test_conditions_hold_two_kinds_of_methods(conditions):
    config, _, _ = grid_of("rlkl", "experiment=subtraction", f"+conditions={conditions}")
    with pytest.raises(InputError, match=r"conditions must each hold the same two kinds of methods, of prioritized, "):
        check_grid(config, [])


def test_settings_that_are_newer_than_runs_do_not_change_their_names():
    _, _, runs = grid_of("rlkl", "experiment=subtraction")
    mixed = dataclasses.replace(runs["standard"], easier_share=0.5)
    assert "easier_share" not in identity(runs["standard"], *settings_of(runs["standard"]))
    assert identity(mixed, *settings_of(mixed))["easier_share"] == 0.5


def test_an_axis_has_a_line_for_methods_that_differ_in_nothing_else():
    config, _, runs = grid_of("rlkl", "experiment=subtraction")
    axis = axis_of(config.axis, runs)
    assert axis is not None
    of_weighting = {5: ""} | {alpha: f", alpha {alpha}" for alpha in (1, 0.2, 0.04, 0.008, 0.0016)}
    lines = {name: {name + rest: alpha for alpha, rest in of_weighting.items()} for name in ("prioritized", "standard")}
    assert axis == {"key": "penalty.alpha", "lines": lines}


@pytest.mark.parametrize("experiment", sorted(set(RLKL_GRIDS) - SMALL_ONLY))
def test_the_paper_profile_is_of_the_papers_models(experiment):
    config, _, runs = grid_of("rlkl", f"experiment={experiment}", "profile=paper")
    assert config.output.endswith("-paper")
    positions = typed(composed("rlkl", "pretrain", "experiment=pretrain_paper")).architecture.positions
    for model, digits in {*((run.model, run.extra_digits) for run in runs.values()), *((model, 3) for model in config.models)}:
        task, trained = re.fullmatch(r"runs/rlkl/(\w+)-n(\d+)-gpt2/model", model).groups()
        check_positions(task_named(task), positions, int(trained) + digits)
    for name, run in runs.items():
        assert (run.algorithm.precision, run.algorithm.iterations) == ("bf16", 40)
        level, task = re.match(r"N = (\d+), ", name), re.fullmatch(r"([a-z]+), (prioritized|standard|none)", name)
        assert not level or f"-n{level[1]}-" in run.model
        assert not task or f"/{task[1]}-" in run.model


def test_make_pretrains_what_the_paper_profile_starts_from():
    command = ["make", "-n", "-o", ".venv/.installed", "reproduce-rl", "PROFILE=paper", "EXPERIMENT=betas"]
    outside = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(command, cwd=CONF.parent, env=outside, capture_output=True, text=True, check=True)
    pretrain, reproduce = (line.split() for line in done.stdout.splitlines() if line.strip())
    assert (pretrain[0], reproduce[:1]) == (".venv/bin/rlkl-pretrain", [".venv/bin/rlkl-reproduce"])
    made = typed(composed("rlkl", "pretrain", *pretrain[1:]))
    _, _, runs = grid_of("rlkl", *reproduce[1:])
    assert (made.trained_digits, made.architecture.layers, made.architecture.width) == (7, 12, 768)
    assert {run.model for run in runs.values()} == {f"{made.run_dir}/model"}


@pytest.mark.parametrize("experiment", sorted(SMALL_ONLY))
def test_small_models_are_refused_under_the_paper_profile(experiment):
    config, _, runs = grid_of("rlkl", f"experiment={experiment}", "profile=paper")
    with pytest.raises(InputError, match=r"-n5.*: small models that come with the package, and not for profile=paper"):
        check_runs(config, runs)


@pytest.mark.parametrize(
    ("package", "application", "override"),
    [
        ("htc", "train", "training.epoch=3"),
        ("htc", "train", "dataset.fraction=1"),
        ("htc", "train", "loss.temperature=2"),
        ("rlkl", "pretrain", "architecture.layer=3"),
        ("rlkl", "finetune", "penalty.betas=3"),
        ("rlkl", "finetune", "algorithm.lr=3"),
        ("rlkl", "evaluate", "digit=3"),
    ],
)
def test_typos_are_refused(package, application, override):
    with pytest.raises(Exception, match=r"not in|Could not"):
        composed(package, application, override)


def test_a_value_that_must_be_given_is_missing():
    with pytest.raises(MissingMandatoryValue, match="dir"):
        OmegaConf.to_object(composed("htc", "train", "dataset=custom"))


def test_the_published_results_rest_on_these_settings():
    """A change of one of these makes results/ and `adaptive`'s target_kl another experiment's."""
    penalty = typed(composed("rlkl", "finetune")).penalty
    assert (penalty.weighting, penalty.alpha, penalty.beta, penalty.certainty) == ("prioritized", 5.0, 150.0, "negentropy")
    assert (penalty.estimator, penalty.placement, penalty.anchor) == ("k2", "loss", "reference")
