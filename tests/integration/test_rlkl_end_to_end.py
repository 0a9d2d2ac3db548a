"""rlkl as its users meet it: pre-training, fine-tuning and evaluation of a tiny model, right and wrong input."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlkl.algorithms.by_name import ALGORITHMS
from rlkl.analysis.counterfactual import Outcome, Place
from rlkl.commands import analyze as analyze_app
from rlkl.commands import evaluate as evaluate_app
from rlkl.commands import finetune as finetune_app
from rlkl.commands import pretrain as pretrain_app
from rlkl.commands import reproduce as reproduce_app
from rlkl.commands.config import (
    ArchitectureConfig,
)
from rlkl.finetuning import learner
from rlkl.finetuning.learner import Learner
from rlkl.model.language_model import load_model, task_of
from rlkl.model.texts import END_TOKEN, encode
from rlkl.report.reproduction import summarize, write_rl_report
from rlkl.settings import WEIGHTINGS as NAMES
from rlkl.tasks import multiplication, subtraction
from rlkl.tasks.addition import completion
from rlkl.tasks.operands import Operands
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.errors import InputError as CommonInputError
from rlkl_htc_common.runs.tracking import TrackingConfig

from ..rlkl import recipes
from .dashboard_panels import metrics_named, undocumented
from .entry_points import call

OFF = TrackingConfig("disabled")
PRETRAIN = recipes.pretraining(
    trained_digits=1,
    architecture=ArchitectureConfig(layers=2, heads=2, width=32, positions=384, dropout=0.0),
    training={
        "epochs": 3,
        "batch_size": 8,
        "examples_per_epoch": 80,
        "learning_rate": 3e-3,
        "muon_learning_rate": 4e-3,
        "checkpoint_steps": 7,
    },
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
    """A fine-tuning that takes seconds."""
    return recipes.finetuning(
        model=str(pretrained / "model"),
        penalty=recipes.penalty("prioritized", beta=10.0),
        algorithm=recipes.algorithm(episodes=6, iterations=4, minibatch_size=3, learning_rate=1e-3),
        evaluate_every=2,
        evaluation_examples=3,
        run_dir=str(tmp_path / "run"),
        tracking=OFF,
    )


def outcome(folder):
    metrics = (folder / "metrics.jsonl").read_text()
    return metrics, load_file(folder / "model" / "model.safetensors")


def same(a, b):
    assert a[0] == b[0]
    assert all(torch.equal(a[1][name], b[1][name]) for name in a[1])


def test_a_pretrained_model_is_a_transformers_folder(pretrained):
    model = AutoModelForCausalLM.from_pretrained(pretrained / "model")
    assert len(AutoTokenizer.from_pretrained(pretrained / "model")) == model.config.vocab_size == 41
    assert model.config.trained_digits == 1
    lines = [json.loads(line) for line in (pretrained / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30]
    assert lines[-1]["train/loss"] < 0.8 * lines[0]["train/loss"]
    assert metrics_named("rlkl pre-training") <= set(lines[0])
    assert not undocumented(lines[0])


def test_pretraining_that_is_killed_goes_on_to_the_same_model(pretrained, tmp_path, monkeypatch):
    config = replace(PRETRAIN, run_dir=str(tmp_path / "run"))
    steps = 0
    whole = pretrain_app.completion_loss

    def dies(logits, targets):
        nonlocal steps
        steps += 1
        if steps == 18:
            raise MemoryError
        return whole(logits, targets)

    monkeypatch.setattr(pretrain_app, "completion_loss", dies)
    with pytest.raises(MemoryError):
        pretrain_app.pretrain(config)
    monkeypatch.undo()
    pretrain_app.pretrain(config)
    same(outcome(tmp_path / "run"), outcome(pretrained))


def test_rows_begin_at_random_positions_and_often_at_the_first():
    config = replace(PRETRAIN, training=replace(PRETRAIN.training, examples_per_epoch=400))
    data = pretrain_app.fresh_problems(config, 0)
    inputs, targets = data.collate(torch.arange(400))
    starts = inputs["position_ids"][:, 0]
    assert 0.15 < (starts == 0).float().mean() < 0.35
    assert inputs["position_ids"].max() == config.architecture.positions - 1
    assert (targets != pretrain_app.IGNORED).any(1).all()
    operands = data.collate.args[1]
    for row in range(20):  # the prompt is not learnt, the completion and its end are
        learnt = targets[row][targets[row] != pretrain_app.IGNORED].tolist()
        assert learnt == encode([completion(operands[row])])[0] + [END_TOKEN]
    again = pretrain_app.fresh_problems(config, 1).collate(torch.arange(400))[0]
    assert not torch.equal(again["input_ids"][:, :10], inputs["input_ids"][:, :10])


@pytest.mark.parametrize("weighting", NAMES)
@pytest.mark.parametrize("estimator", ["k2", "exact"])
def test_every_penalty_trains(small, weighting, estimator, tmp_path):
    result = finetune_app.finetune(
        replace(small, penalty=recipes.penalty(weighting, estimator=estimator, beta=2.0, share=0.2)), progress=False
    )
    first, last = result["history"][0], result["history"][-1]
    assert [line["step"] for line in result["history"]] == [0, 1, 2, 3, 4]
    assert {"eval/accuracy_N", "eval/accuracy_longer", "critical/comma"} <= set(first)
    assert metrics_named("rlkl") - {"losses/clip_fraction"} <= set(last)  # which a2c has none of
    assert not undocumented(set(first) | set(last))
    assert (last["losses/kl_loss"] == 0) == (weighting == "none")
    shares = [value for key, value in last.items() if key.startswith("weights/share")]
    assert len(shares) == 10
    assert sum(shares) == pytest.approx(1.0, abs=1e-5)
    assert last["losses/kl"] != 0


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize(
    "penalty", [recipes.penalty("standard", placement="reward", estimator="k1"), recipes.penalty("standard", target_kl=1e-9)]
)
def test_every_algorithm_trains_with_every_place_of_the_penalty(small, name, penalty):
    groups = {} if name in ("a2c", "ppo") else {"group_size": 2}
    algorithm = replace(small.algorithm, name=name, passes=2, clip_range=0.2, **groups)
    result = finetune_app.finetune(replace(small, algorithm=algorithm, penalty=penalty), progress=False)
    last = result["history"][-1]
    assert last["losses/kl"] > 0
    assert ("losses/kl_loss" in last) == (penalty.placement == "loss")
    assert ("losses/value_loss" in last) == (name in ("a2c", "ppo"))
    steps = 2 * len(result["history"]) * algorithm.episodes // algorithm.minibatch_size
    assert 5.0 * 0.95**steps <= last["losses/alpha"] <= 5.0 * 1.05**steps
    assert (last["losses/alpha"] == 5.0) == (penalty.target_kl is None)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(small, tmp_path):
    folders = [tmp_path / name for name in "abc"]
    for folder, seed in zip(folders, (3, 3, 4), strict=True):
        finetune_app.finetune(replace(small, run_dir=str(folder), seed=seed), progress=False)
    same(outcome(folders[0]), outcome(folders[1]))
    assert outcome(folders[0])[0] != outcome(folders[2])[0]


@pytest.mark.parametrize("iteration", [0, 1, 3])
def test_a_finetuning_that_is_killed_goes_on_to_the_same_numbers(small, iteration, tmp_path, monkeypatch):
    whole = replace(small, run_dir=str(tmp_path / "whole"))
    finetune_app.finetune(whole, progress=False)
    update = Learner.update

    def dies(self, number, *rest):
        if number == iteration:
            raise MemoryError
        return update(self, number, *rest)

    monkeypatch.setattr(Learner, "update", dies)
    with pytest.raises(MemoryError):
        finetune_app.finetune(small, progress=False)
    monkeypatch.undo()
    finetune_app.finetune(small, progress=False)
    same(outcome(tmp_path / "run"), outcome(tmp_path / "whole"))
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_loss_that_is_no_number_is_reported_and_the_last_checkpoint_stays(small, tmp_path, monkeypatch):
    terms = learner.loss_terms
    calls = 0

    def becomes_nan(*arguments):
        nonlocal calls
        calls += 1
        found = terms(*arguments)
        return found | {"kl_loss": found["kl_loss"] * float("nan")} if calls == 4 else found

    monkeypatch.setattr(learner, "loss_terms", becomes_nan)
    with pytest.raises(InputError, match="the loss became nan in iteration 2 of 4; the last checkpoint is kept"):
        finetune_app.finetune(small, progress=False)
    (kept,) = (tmp_path / "run" / "checkpoints").glob("step-*")
    assert kept.name == "step-00000001"
    assert all(tensor.isfinite().all() for tensor in load_file(kept / "weights.safetensors").values())


def test_a_finished_run_is_not_run_again(small, monkeypatch):
    first = finetune_app.finetune(small, progress=False)
    monkeypatch.setattr(finetune_app, "_finetune", None)
    assert finetune_app.finetune(small, progress=False) == first


def test_the_policy_stays_where_a_strong_exact_kl_holds_it(small):
    """With an enormous KL the policy must move less than without."""

    def moved(penalty, folder):
        config = replace(small, penalty=penalty, run_dir=folder)
        history = finetune_app.finetune(config, progress=False)["history"]
        return abs(history[-1]["losses/kl"])

    held = moved(recipes.penalty("standard", alpha=1000.0, estimator="exact"), small.run_dir + "-held")
    free = moved(recipes.penalty("none", estimator="exact"), small.run_dir + "-free")
    assert held < 0.5 * free


def test_evaluation_of_a_model(pretrained, tmp_path, capsys):
    config = recipes.recipe("evaluate", model=str(pretrained / "model"), digits=[1, 2], examples=6, generations=3, show=1)
    result = evaluate_app.evaluate(replace(config, output=str(tmp_path / "out" / "evaluation.json")), progress=False)
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text()) == result
    assert [(row["operands"], row["digits"]) for row in result["rows"]] == [
        ("identical", 1),
        ("identical", 2),
        ("varying", 1),
        ("varying", 2),
    ]
    for row in result["rows"]:
        assert row["low"] <= row["accuracy"] <= row["high"]
        assert row["wrong"] == round(6 * (1 - row["accuracy"]))
    assert set(result["certainty"]["gaps"]) == {"critical", "operand lists", "lowest"}
    assert "N+1" in evaluate_app.summary(result)
    with pytest.raises(InputError, match="exists; choose another output"):
        evaluate_app.check(replace(config, output=str(tmp_path / "out" / "evaluation.json")))


def test_analysis_of_a_model_against_itself(pretrained, tmp_path, monkeypatch, capsys):
    config = recipes.recipe("analyze", model=str(pretrained / "model"), examples=6, problems=2, samples=2)
    alone = analyze_app.analyze(config, progress=False)
    assert alone["drift"] is None
    output = tmp_path / "out" / "analysis"
    values = {"model": config.model, "reference": config.model, "examples": 6, "problems": 2, "samples": 2, "output": output}
    arguments = [f"{key}={value}" for key, value in values.items()]
    code, printed, err = call(analyze_app, arguments, monkeypatch, capsys)
    assert code == 0, err
    result = json.loads((output / "analysis.json").read_text())
    assert (output / "report.html").read_text().count('role="img"') == 3
    assert result.pop("command").startswith("rlkl-analyze model=")
    assert {key: value for key, value in result.items() if alone[key] != value}.keys() == {
        "reference",
        "reference_fingerprint",
        "drift",
    }
    for digits in ("N", "N+1"):
        assert (result["drift"][digits]["kl"], result["drift"][digits]["changed"]) == (0, 0)
        assert sum(part["tokens"] for part in result["drift"][digits]["positions"]) == result["drift"][digits]["tokens"]
    rows = {row["group"]: row for row in result["counterfactual"]["groups"]}
    assert set(rows) == {"critical", "operand lists", "others", "least certain"}
    assert sum(row["places"] for row in rows.values()) == len(result["counterfactual"]["places"])
    for place in result["counterfactual"]["places"]:
        assert place["character"] != place["wrong_character"]
        assert (place["field"].startswith("operand")) or place["group"] not in ("critical", "operand lists")
    assert "critical tokens" in printed
    assert "drift from" in printed
    code, _, err = call(analyze_app, arguments, monkeypatch, capsys)
    assert (code, "exists; choose another output" in err) == (2, True)
    code, _, err = call(analyze_app, [*arguments[:-1], f"ensemble=[{config.model}]"], monkeypatch, capsys)
    assert (code, "is" in err and "itself; give models that were trained from other seeds" in err) == (2, True)


def test_a_group_without_right_answers_has_none_to_lose():
    outcome = Outcome(Place(0, 3, "others"), "1", "2", 0.9, 0.0, 0.0)
    better = outcome._replace(place=Place(0, 3, "critical"), right=0.75, wrong=0.25)
    nothing, something = analyze_app.group_rows([outcome, better])
    assert nothing["lost"] is None
    assert something["lost"] == pytest.approx(2 / 3)
    assert something["importance"] == {"mean": 0.5, "low": 0.5, "high": 0.5}


@pytest.mark.parametrize(("task", "sign", "tokens"), [(subtraction, "-", 41), (multiplication, "*", 42)])
def test_another_task_from_pretraining_to_its_report(task, sign, tokens, small, tmp_path):
    config = replace(PRETRAIN, task=task.NAME, runs=str(tmp_path / "runs"), training=replace(PRETRAIN.training, epochs=1))
    run = pretrain_app.pretrain(config)
    assert run["task"] == task.NAME
    assert f"{task.NAME}-n1-seed0" in run["run_dir"]
    folder = f"{run['run_dir']}/model"
    assert task_of(load_model(folder)) is task
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == AutoModelForCausalLM.from_pretrained(folder).config.vocab_size == tokens
    text = task.prompt(Operands(38, 4)) + task.completion(Operands(38, 4))
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text

    evaluation = evaluate_app.evaluate(
        recipes.recipe("evaluate", model=folder, digits=[1, 2], examples=4, show=1), progress=False
    )
    assert evaluation["task"] == task.NAME
    assert f"(50 {task.NAME}s)" in evaluate_app.summary(evaluation)
    assert sign in evaluation["scratchpads"][0]["prompt"]
    assert [row["digits"] for row in evaluation["rows"]] == [1, 2, 1, 2]

    result = finetune_app.finetune(replace(small, model=folder), progress=False)
    assert task_of(load_model(f"{result['run_dir']}/model")) is task
    assert {"eval/accuracy_longer", "critical/comma_step1_operand1"} <= set(result["history"][-1])
    assert ("critical/comma_step1_operand2" in result["history"][-1]) == (task is subtraction)

    reproduce_app.drift_of(result)
    left = {
        "method": "ours",
        "seed": 0,
        "run_dir": result["run_dir"],
        "command": "",
        "metrics": finetune_app.metrics_of(result),
    }
    rest = {"wall_seconds": 1.0, "compare": [], "steps": None, "pools": None, "axis": None}
    summary = summarize({"starts": {folder: evaluation}, "runs": [left], **rest})
    page = write_rl_report(tmp_path, summary).read_text()
    assert f"Pre-trained on {task.NAME}s of up to N = 1 digits" in page
    assert "addition" not in page


@pytest.mark.parametrize(
    ("app", "arguments", "message"),
    [
        (pretrain_app, ["trained_digits=0"], "trained_digits must be at least 1, not 0"),
        (pretrain_app, ["trained_digits=8"], "additions of 9 digits need 823 positions and the model has 768"),
        (pretrain_app, ["task=division"], "task must be one of addition, subtraction, multiplication, not 'division'"),
        (pretrain_app, ["task=multiplication", "trained_digits=11"], "multiplications of 12 digits need"),
        (pretrain_app, ["seed=-1"], "seed must be from 0"),
        (pretrain_app, ["architecture.dropout=1.5"], "architecture.dropout must be at least 0"),
        (pretrain_app, ["training.adam_beta2=1"], "training.adam_beta2 must be between 0 and 1"),
        (pretrain_app, ["architecture.heads=5"], "the width a multiple of the heads"),
        (pretrain_app, ["training.muon_learning_rate=-1"], "training.muon_learning_rate must be positive or null"),
        (pretrain_app, ["saved_dtype=int8"], "saved_dtype must be one of"),
        (finetune_app, ["extra_digits=0"], "extra_digits must be at least 1"),
        (finetune_app, ["easier_share=1"], "easier_share must be at least 0 and below 1, not 1.0"),
        (finetune_app, ["extra_digits=20"], "additions of 21 digits need"),
        (finetune_app, ["penalty=strong"], "Could not find"),
        (finetune_app, ["penalty.certainty=entropy"], "penalty.certainty must be one of negentropy"),
        (finetune_app, ["algorithm.episodes=0"], "algorithm.episodes must be positive"),
        (finetune_app, ["algorithm.episodes=1"], "algorithm.episodes must be at least 2"),
        (finetune_app, ["algorithm.learning_rate=nan"], "algorithm.learning_rate must be positive"),
        (finetune_app, ["algorithm.gae_lambda=2"], "algorithm.gae_lambda must be from 0 to 1"),
        (finetune_app, ["algorithm.learnin_rate=1"], "learnin_rate"),
        (finetune_app, ["model=nowhere"], "no model in 'nowhere'"),
        (evaluate_app, ["digits=[0]"], "digits must be a list of positive numbers"),
        (evaluate_app, ["digits=[12]"], "additions of 12 digits need"),
        (evaluate_app, ["operands=[equal]"], "operands must be a list of identical, varying"),
        (evaluate_app, ["examples=0"], "examples must be at least 1"),
        (analyze_app, ["problems=0"], "problems must be at least 1, not 0"),
        (analyze_app, ["operands=equal"], "operands must be identical or varying, not 'equal'"),
        (analyze_app, ["temperature=-1"], "temperature must be a number of at least 0"),
        (analyze_app, ["reference=addition-n5"], "was pre-trained on 1 digits and addition-n5 on 5: choose the reference"),
        (analyze_app, ["example=2"], "did you mean 'examples'?"),
        (reproduce_app, ["seeds=[]"], "seeds and methods must each hold at least one entry"),
        (reproduce_app, ["seeds=[1,1]"], "must hold each seed only once"),
        (reproduce_app, ["run_dir=somewhere"], "takes seeds=[...]"),
        (reproduce_app, ["+methods={a: {penalty: standard}}"], "methods: standard KL and a do not differ"),
        (reproduce_app, ["+methods={a: {penalty.beta: 0}}"], "methods: standard KL and a do not differ"),
        (reproduce_app, ["+methods={a: {penalty: standard, penalty.alpha: 0}}"], "methods: no KL and a do not differ"),
        (reproduce_app, ["+methods={a: {penalty.betas: 2}}"], "methods: a: unknown key 'penalty.betas'; did you mean 'beta'?"),
        (reproduce_app, ["+methods={a: {penalty: strong}}"], "methods: a: "),
        (reproduce_app, ["+methods={a: {seed: 2}}"], "takes seeds=[...]"),
        (finetune_app, ["penalty=none", "penalty.alpha=2"], "unknown key 'penalty.alpha'; known here: weighting"),
        (finetune_app, ["algorithm.clip_range=0.3"], "unknown key 'algorithm.clip_range'"),
        (reproduce_app, ["compare=[[no KL, with KL]]"], "compare must hold pairs of methods"),
        (reproduce_app, ["steps=[standard KL]"], "steps must hold two methods or more"),
        (reproduce_app, ["axis=algorithm.name"], "axis must be a key whose values are numbers"),
        (reproduce_app, ["axis=penalty.alpha"], "no two methods differ in penalty.alpha and in nothing else"),
        (finetune_app, ["penalty.estimator=k1"], "penalty.estimator must be one of k2, k3, exact where"),
        (finetune_app, ["algorithm=grpo", "algorithm.episodes=7"], "must be a multiple of algorithm.group_size"),
        (reproduce_app, ["jobs=0"], "jobs must be at least 1"),
    ],
)
def test_bad_settings_are_one_sentence_and_exit_code_2(app, arguments, message, pretrained, tmp_path, monkeypatch, capsys):
    if app is not pretrain_app and not any(argument.startswith("model=") for argument in arguments):
        arguments = [f"model={pretrained / 'model'}", *arguments]
    if app in (pretrain_app, finetune_app, reproduce_app):
        arguments = [f"runs={tmp_path}", *arguments]
    code, out, err = call(app, arguments, monkeypatch, capsys)
    assert code == 2, err
    assert message in err
    assert not out
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err


def copy_model(pretrained, folder, **changes):
    folder.mkdir()
    for file in (pretrained / "model").iterdir():
        if file.name != "manifest.json":  # which would notice
            (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("vocabulary", "has another vocabulary than the 41 tokens of additions"),
        ("another task", "has another vocabulary than the 42 tokens of multiplications"),
        ("no task", "config.json: task must be one of addition, subtraction, multiplication, not 'division'"),
        ("digits", "trained_digits is missing"),
        ("weights", "cannot load the weights"),
    ],
)
def test_a_model_that_cannot_be_used_is_reported(damage, message, pretrained, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "model"
    changes = {
        "another task": {"task": "multiplication"},
        "no task": {"task": "division"},
        "digits": {"trained_digits": None},
    }
    copy_model(pretrained, folder, **changes.get(damage, {}))
    if damage == "vocabulary":
        tokenizer = (folder / "tokenizer.json").read_text()
        (folder / "tokenizer.json").write_text(tokenizer.replace('"u":', '"x":'))
    if damage == "weights":
        (folder / "model.safetensors").write_bytes(b"no weights")
    code, _, err = call(evaluate_app, [f"model={folder}", "examples=2"], monkeypatch, capsys)
    assert code == 2
    assert message in err


def test_the_reproduction_ends_in_a_report_and_skips_what_is_done(pretrained, tmp_path, monkeypatch, capsys):
    arguments = [
        f"model={pretrained / 'model'}",
        "seeds=[0,1]",
        "examples=8",
        "algorithm.iterations=2",
        "algorithm.episodes=4",
        "evaluation_examples=2",
        "evaluate_every=1",
        "~experiment",
        "title=two",
        "+methods={free: {penalty: none}, ours: {penalty.beta: 1}}",
        f"runs={tmp_path / 'runs'}",
        f"output={tmp_path / 'output'}",
        "tracking.mode=disabled",
    ]
    code, out, err = call(reproduce_app, arguments, monkeypatch, capsys)
    assert code == 0, err
    assert "| ours |" in out
    page = (tmp_path / "output" / "report.html").read_text()
    assert page.count('role="img"') == 14
    assert "<h2>The 4 runs</h2>" in page
    assert f"<code>rlkl-finetune penalty=none model={pretrained / 'model'}" in page
    assert page.count("<pre") == 3
    assert "each of the 2 seeds" in page  # too few for an interval
    assert "(95% interval" not in page
    summary = json.loads((tmp_path / "output" / "summary.json").read_text())
    assert summary["seeds"] == [0, 1]
    assert list(summary["methods"]) == ["free", "ours"]
    assert {file.stem for file in (tmp_path / "output").glob("*.svg")} >= {"success", "critical_commas", "weights"}
    results = [file.stat().st_mtime_ns for file in sorted((tmp_path / "runs").rglob("result.json"))]
    assert len(results) == 4 + 8  # fine-tunings, and rows of the evaluation before
    call(reproduce_app, arguments, monkeypatch, capsys)
    assert [file.stat().st_mtime_ns for file in sorted((tmp_path / "runs").rglob("result.json"))] == results


def test_models_can_be_held_against_each_other_before_any_fine_tuning(pretrained, tmp_path, monkeypatch, capsys):
    copy_model(pretrained, tmp_path / "another")
    arguments = [
        "experiment=levels_before",
        f"models=[{pretrained / 'model'},{tmp_path / 'another'}]",
        "examples=4",
        f"runs={tmp_path / 'runs'}",
        f"output={tmp_path / 'output'}",
    ]
    code, out, err = call(reproduce_app, arguments, monkeypatch, capsys)
    assert code == 0, err
    assert f"({tmp_path / 'another'})" in out
    page = (tmp_path / "output" / "report.html").read_text()
    assert page.count("table 1") == 3  # both models together, and each
    assert "The result" not in page
    summary = json.loads((tmp_path / "output" / "summary.json").read_text())
    assert list(summary["starts"]) == [str(pretrained / "model"), str(tmp_path / "another")]
    assert summary["methods"] == {}


def test_ctrl_c_keeps_a_checkpoint_and_exits_with_130(pretrained, tmp_path):
    command = [sys.executable, "-m", "rlkl.commands.finetune", f"model={pretrained / 'model'}", f"run_dir={tmp_path / 'run'}"]
    command += ["algorithm.episodes=4", "algorithm.iterations=10000", "evaluation_examples=1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"WANDB_MODE": "disabled"})
    checkpoints = tmp_path / "run" / "checkpoints"
    deadline = time.monotonic() + 90
    while not list(checkpoints.glob("step-*")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert list(checkpoints.glob("step-*"))


def test_errors_of_both_packages_are_input_errors():
    with pytest.raises(CommonInputError):
        recipes.pretraining({"epochs": 0}).training.check()
