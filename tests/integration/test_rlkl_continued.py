"""Fine-tuning that goes on: a run that has ended gets more iterations, a fine-tuned model is trained on with its anchor where
it was; and "before" and "after" are measured on the same problems."""

import json
import logging
import shutil
from dataclasses import replace

import pytest
import torch
import yaml
from safetensors.torch import load_file

from rlkl.commands import analyze as analyze_app
from rlkl.commands import finetune as finetune_app
from rlkl.commands import pretrain as pretrain_app
from rlkl.commands import reproduce as reproduce_app
from rlkl.commands.config import (
    ArchitectureConfig,
)
from rlkl.finetuning.learner import Learner
from rlkl.finetuning.progress import Progress
from rlkl.model.completion import accuracy, sample
from rlkl.model.language_model import load_model, task_of
from rlkl.model.sequences import next_token_logits
from rlkl.report.methods import result_table
from rlkl.report.records import Run
from rlkl.settings import AccuracySettings
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.report.records import as_plain, read_record
from rlkl_htc_common.runs.directory import RunDirectory
from rlkl_htc_common.runs.tracking import TrackingConfig
from rlkl_htc_common.training.checkpoints import Checkpoints

from ..rlkl import recipes
from .entry_points import call

OFF = TrackingConfig("disabled")
PRETRAIN = recipes.pretraining(
    trained_digits=1,
    architecture=ArchitectureConfig(layers=2, heads=2, width=32, positions=384, dropout=0.0),
    training={"epochs": 2, "batch_size": 8, "examples_per_epoch": 80, "learning_rate": 3e-3, "muon_learning_rate": 4e-3},
    evaluation_examples=4,
    tracking=OFF,
)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A run directory of a model that has learnt a little of one-digit additions."""
    folder = tmp_path_factory.mktemp("pretrained") / "run"
    pretrain_app.pretrain(replace(PRETRAIN, run_dir=str(folder)))
    return folder


@pytest.fixture
def small(pretrained, tmp_path):
    """A fine-tuning that takes seconds; where it runs is open."""
    return recipes.finetuning(
        model=str(pretrained / "model"),
        penalty=recipes.penalty("prioritized", beta=10.0),
        algorithm=recipes.algorithm(episodes=6, iterations=4, minibatch_size=3, learning_rate=1e-3),
        evaluate_every=3,
        evaluation_examples=3,
        runs=str(tmp_path / "runs"),
        tracking=OFF,
    )


def iterations(config, number):
    return replace(config, algorithm=replace(config.algorithm, iterations=number))


def run(config):
    return finetune_app.finetune(config, progress=False)


def outcome(folder):
    """All that a run leaves but what tells when and where it ran."""
    result = json.loads((folder / "result.json").read_text())
    for changing in ("wall_seconds", "git_commit"):
        del result[changing]
    (last,) = (folder / "last").iterdir()
    state = torch.load(last / "state.pt", weights_only=True)
    saved = load_file(folder / "model" / "model.safetensors"), load_file(last / "weights.safetensors")
    metrics = (folder / "metrics.jsonl").read_text()
    return metrics, result, saved[0] | saved[1], state["optimizer"]["state"], state["alpha"]


def same(a, b):
    metrics, result, weights, optimizer, alpha = a
    assert (metrics, result, alpha) == (b[0], b[1], b[4])
    assert all(torch.equal(weights[name], b[2][name]) for name in weights)
    assert all(torch.equal(moment, b[3][number][name]) for number, found in optimizer.items() for name, moment in found.items())


@pytest.mark.parametrize("place", ["the same run_dir", "runs"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"evaluate_every": 2},
        {"evaluate_every": 100},
        {"algorithm": {"name": "ppo", "passes": 2, "clip_range": 0.2}},
        {"algorithm": {"name": "grpo", "group_size": 2, "clip_range": 0.2}},
        {"penalty": recipes.penalty("standard", target_kl=1e-9)},
        {"penalty": recipes.penalty("shuffled", beta=2.0)},
        {"evaluation": AccuracySettings("training_mix", 2.0)},
    ],
)
def test_more_collects_go_on_to_the_numbers_of_all_at_once(small, place, changes, tmp_path, monkeypatch):
    algorithm = replace(small.algorithm, **changes.get("algorithm", {}))
    config = replace(small, **changes | {"algorithm": algorithm})
    if place == "the same run_dir":
        config = replace(config, run_dir=str(tmp_path / "grown"))
    first = run(iterations(config, 4))
    learnt = []
    learn = Learner.learn
    monkeypatch.setattr(Learner, "learn", lambda self, number: learnt.append(number) or learn(self, number))
    grown = run(iterations(config, 8))
    assert learnt == [4, 5, 6, 7]
    assert (first["run_dir"] == grown["run_dir"]) == (place == "the same run_dir")
    at_once = run(replace(iterations(config, 8), run_dir=str(tmp_path / "at once")))
    same(outcome(tmp_path / "at once"), outcome(tmp_path / grown["run_dir"]))
    assert [line["step"] for line in grown["history"]] == list(range(9))
    assert at_once["history"] == grown["history"]
    assert run(iterations(config, 8)) == grown, "a finished run is not run again"


@pytest.mark.parametrize("iteration", [4, 5, 7])
def test_a_run_that_is_killed_while_it_grows_goes_on_to_the_same_numbers(small, iteration, tmp_path, monkeypatch):
    whole = replace(iterations(small, 8), run_dir=str(tmp_path / "whole"))
    run(whole)
    grown = replace(small, run_dir=str(tmp_path / "grown"))
    run(grown)
    update = Learner.update

    def dies(self, number, *rest):
        if number == iteration:
            raise MemoryError
        return update(self, number, *rest)

    monkeypatch.setattr(Learner, "update", dies)
    with pytest.raises(MemoryError):
        run(iterations(grown, 8))
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"different: algorithm.iterations\): algorithm.iterations can be raised, not lowered"):
        run(grown)
    run(iterations(grown, 8))
    same(outcome(tmp_path / "whole"), outcome(tmp_path / "grown"))
    assert not (tmp_path / "grown" / "checkpoints").exists()


def test_an_unfinished_run_can_grow_too(small, tmp_path, monkeypatch):
    grown = replace(small, run_dir=str(tmp_path / "grown"))
    save = Checkpoints.save

    def dies(self, step, *rest):
        save(self, step, *rest)
        if step == 2:
            raise MemoryError

    monkeypatch.setattr(Checkpoints, "save", dies)
    with pytest.raises(MemoryError):
        run(grown)
    monkeypatch.undo()
    run(iterations(grown, 6))
    run(replace(iterations(small, 6), run_dir=str(tmp_path / "whole")))
    same(outcome(tmp_path / "whole"), outcome(tmp_path / "grown"))


def test_without_its_last_state_a_run_is_made_again_and_says_so(small, tmp_path, caplog):
    grown = replace(small, run_dir=str(tmp_path / "grown"))
    run(grown)
    shutil.rmtree(tmp_path / "grown" / "last")
    with caplog.at_level(logging.WARNING):
        run(iterations(grown, 6))
    assert "last is missing" in caplog.text
    run(replace(iterations(small, 6), run_dir=str(tmp_path / "whole")))
    same(outcome(tmp_path / "whole"), outcome(tmp_path / "grown"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 5}, r"different: algorithm.iterations, seed\); choose another run_dir"),
        ({"penalty": recipes.penalty("standard")}, r"different: algorithm.iterations, penalty"),
        ({"extra_digits": 2}, r"different: algorithm.iterations, extra_digits\)"),
    ],
)
def test_only_a_run_that_is_the_same_otherwise_grows(small, change, message, tmp_path):
    grown = replace(small, run_dir=str(tmp_path / "grown"))
    run(grown)
    before = {file: file.read_bytes() for file in (tmp_path / "grown").rglob("*") if file.is_file()}
    with pytest.raises(InputError, match=message):
        run(replace(iterations(grown, 8), **change))
    assert {file: file.read_bytes() for file in (tmp_path / "grown").rglob("*") if file.is_file()} == before


def test_a_run_that_another_process_is_at_work_on_does_not_grow(small, tmp_path):
    grown = replace(small, run_dir=str(tmp_path / "grown"))
    run(grown)
    config = (tmp_path / "grown" / "config.yaml").read_text()
    with (
        RunDirectory(tmp_path / "grown", yaml.safe_load(config)).locked(),
        pytest.raises(InputError, match="another process is at work"),
    ):
        run(iterations(grown, 8))
    assert (tmp_path / "grown" / "config.yaml").read_text() == config


def test_epochs_of_a_pretraining_cannot_be_raised_and_it_says_why(pretrained, tmp_path, caplog):
    longer = replace(PRETRAIN, training=replace(PRETRAIN.training, epochs=3))
    with pytest.raises(
        InputError, match=r"different: training.epochs\): the learning rate falls over all epochs.*anew; choose"
    ):
        pretrain_app.pretrain(replace(longer, run_dir=str(pretrained)))
    pretrain_app.pretrain(replace(PRETRAIN, runs=str(tmp_path)))
    with caplog.at_level(logging.INFO):
        pretrain_app.pretrain(replace(longer, runs=str(tmp_path)))
    assert "differs in training.epochs only, and is not continued: the learning rate falls" in caplog.text


def test_a_finetuned_model_is_trained_on_with_its_anchor_where_it_was(small, tmp_path):
    first = run(replace(small, run_dir=str(tmp_path / "first")))
    tuned = f"{first['run_dir']}/model"
    moved = run(replace(small, model=tuned, run_dir=str(tmp_path / "moved")))
    held = run(replace(small, model=tuned, reference=small.model, run_dir=str(tmp_path / "held")))
    assert (first["reference"], moved["reference"], held["reference"]) == (small.model, tuned, small.model)
    assert (held["trained_digits"], held["digits"]) == (1, 2), "counted from pre-training"
    same_before = {key: held["history"][0][key] for key in held["history"][0] if key != "step"}
    assert same_before == {key: first["history"][-1][key] for key in same_before}
    assert moved["history"][0] == held["history"][0]
    config = replace(small, model=tuned, reference=small.model)
    start, reference = finetune_app.load(config)
    penalty, algorithm = finetune_app.settings_of(config)
    how = {"penalty": penalty, "algorithm": algorithm, "extra_digits": 1, "seed": 0}
    learner = Learner(start, finetune_app.make_accelerator(), **how, reference=reference)
    episodes = learner.sample_episodes(0)[0]
    scores = learner.score(episodes)
    logits = next_token_logits(load_model(small.model), episodes)
    torch.testing.assert_close(scores.reference_logits[episodes.mask], logits[episodes.mask])
    assert held["history"][1]["losses/kl"] > moved["history"][1]["losses/kl"], "the policy has left its anchor before"
    assert held["history"][1]["weights/mean"] != moved["history"][1]["weights/mean"], "certainty is the reference's"
    drifts = [reproduce_app.drift_of(result)["N"]["kl"] for result in (moved, held)]
    assert drifts[0] != drifts[1]


def test_naming_the_default_reference_changes_nothing(small, tmp_path):
    named = run(replace(small, reference=small.model))
    assert named["run_dir"] == run(small)["run_dir"]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("addition-n5", "was pre-trained on 1 digits and addition-n5 on 5: choose the reference"),
        ("subtraction-n5", "was made for additions and subtraction-n5 for subtractions: choose the reference"),
        ("multiplication-n5", "was made for additions and multiplication-n5 for multiplications"),
        ("nowhere", "no model in 'nowhere'"),
    ],
)
@pytest.mark.parametrize("app", ["finetune", "reproduce", "analyze"])
def test_a_reference_that_is_no_pair_is_refused(app, reference, message, pretrained, tmp_path, monkeypatch, capsys):
    apps = {"finetune": finetune_app, "reproduce": reproduce_app, "analyze": analyze_app}
    arguments = [f"model={pretrained / 'model'}", f"reference={reference}"]
    if app != "analyze":
        arguments.append(f"runs={tmp_path}")
    code, out, err = call(apps[app], arguments, monkeypatch, capsys)
    assert (code, out) == (2, "")
    assert message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluation.operands=mixed"], "evaluation.operands must be one of identical, varying, training_mix, not 'mixed'"),
        (["evaluation.temperature=-1"], "evaluation.temperature must be a number of at least 0, not -1"),
        (["evaluation.temperature=nan"], "evaluation.temperature must be a number of at least 0"),
        (["evaluation.temperature=inf"], "evaluation.temperature must be a number of at least 0"),
    ],
)
def test_an_evaluation_that_cannot_be_is_refused(arguments, message, pretrained, tmp_path, monkeypatch, capsys):
    arguments = [f"model={pretrained / 'model'}", f"runs={tmp_path}", *arguments]
    code, _, err = call(finetune_app, arguments, monkeypatch, capsys)
    assert code == 2
    assert message in err


def test_accuracy_is_measured_as_the_config_says(small):
    model = load_model(small.model)
    task = task_of(model)
    for operands, temperature in (("varying", 0.0), ("identical", 0.0), ("training_mix", 2.0)):
        scores = Progress(task, 1, 2, 40, AccuracySettings(operands, temperature)).scores(model)
        for name, digits in (("N", 1), ("longer", 2)):
            problems = sample(task, operands, digits, 40, 0, 1)
            assert scores[f"eval/accuracy_{name}"] == accuracy(model, problems, temperature)


def table_rows(lines):
    """The rows of a result's table, by name: of accuracies and probabilities the means, or what all seeds have."""
    return {name: [set(cell.partition(" ± ")[0].split(", ")) for cell in cells[:4]] for name, *cells in lines}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"evaluation": AccuracySettings("training_mix", 2.0)},
        {"evaluation": AccuracySettings("identical"), "evaluation_examples": 5},
        {"extra_digits": 2},
        {"penalty": recipes.penalty("none"), "algorithm": recipes.algorithm(name="grpo", episodes=5)},
    ],
)
def test_a_model_that_does_not_change_is_the_same_before_and_after(small, changes):
    config = replace(small, **{"evaluation_examples": 9} | changes)
    still = replace(config, algorithm=replace(config.algorithm, iterations=1, learning_rate=1e-30))
    results = [run(replace(still, seed=seed)) for seed in (0, 1)]
    rows = table_rows(result_table({"ours": [read_record(Run, as_plain(result), "a result") for result in results]}).rows)
    assert rows["before"] == rows["ours"]
    first, last = (results[0]["history"][place] for place in (0, -1))
    assert {key: first[key] for key in first if key != "step"} == {key: last[key] for key in first if key != "step"}


def test_so_it_is_in_a_reproduction_whose_methods_are_measured_differently(pretrained, tmp_path, monkeypatch, capsys):
    arguments = [
        f"model={pretrained / 'model'}",
        "seeds=[0]",
        "examples=2",  # others than those of the evaluations during fine-tuning
        "algorithm.iterations=1",
        "algorithm.episodes=4",
        "algorithm.learning_rate=1e-30",
        "evaluation_examples=7",
        "~experiment",
        "title=two",
        "+methods={one: {}, farther: {extra_digits: 2}}",
        f"runs={tmp_path / 'runs'}",
        f"output={tmp_path / 'output'}",
        "tracking.mode=disabled",
        "jobs=1",
    ]
    code, _, err = call(reproduce_app, arguments, monkeypatch, capsys)
    assert code == 0, err
    table = (tmp_path / "output" / "table.md").read_text().replace("**", "").splitlines()[2:]
    rows = table_rows([cell.strip() for cell in line.strip("| ").split("|")] for line in table)
    assert list(rows) == ["before: one", "before: farther", "one", "farther"]
    assert all(rows[f"before: {name}"] == rows[name] for name in ("one", "farther"))
