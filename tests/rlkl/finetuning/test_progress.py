import copy
import json

import pytest
import torch

from rlkl.commands.finetune import finetune
from rlkl.finetuning import progress
from rlkl.finetuning.progress import Progress
from rlkl.model.language_model import save_model
from rlkl.settings import AccuracySettings
from rlkl.tasks import addition, subtraction
from rlkl_htc_common.runs.tracking import TrackingConfig

from .. import recipes
from ..conftest import tiny_model


@pytest.fixture
def evaluated(monkeypatch):
    """The evaluations that were computed, one entry each."""
    computed, scores = [], Progress.scores
    monkeypatch.setattr(Progress, "scores", lambda self, policy: computed.append(1) or scores(self, policy))
    return computed


def test_a_model_is_evaluated_once(model, evaluated, tmp_path):
    def once():
        return Progress(addition, 2, 3, 4, AccuracySettings()).scores_once(model, tmp_path / "new" / "before")

    first = once()
    assert once() == first == Progress(addition, 2, 3, 4, AccuracySettings()).scores(model)
    assert len(evaluated) == 2  # the first, and that without a folder
    (file,) = (tmp_path / "new" / "before").iterdir()
    assert json.loads(file.read_text())["scores"] == first


def other_weights(model):
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.bias[0] += 1e-6
    return model


CHANGES = {
    "model": ((addition, 2, 3, 4, AccuracySettings()), other_weights),
    "task": ((subtraction, 2, 3, 4, AccuracySettings()), lambda model: tiny_model(subtraction)),
    "trained digits": ((addition, 1, 3, 4, AccuracySettings()), lambda model: model),
    "digits": ((addition, 2, 4, 4, AccuracySettings()), lambda model: model),
    "examples": ((addition, 2, 3, 5, AccuracySettings()), lambda model: model),
    "operands": ((addition, 2, 3, 4, AccuracySettings(operands="identical")), lambda model: model),
    "temperature": ((addition, 2, 3, 4, AccuracySettings(temperature=1.0)), lambda model: model),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_evaluation_is_computed(change, evaluated, tmp_path):
    model = tiny_model()
    Progress(addition, 2, 3, 4, AccuracySettings()).scores_once(model, tmp_path)
    settings, changed = CHANGES[change]
    of = Progress(*settings)
    found = of.scores_once(changed(model), tmp_path)
    assert len(evaluated) == 2
    assert found == of.scores(model if change != "task" else changed(model))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("what", ["sample", "versions", "git_commit"])
def test_other_problems_or_code_are_evaluated_again(what, evaluated, tmp_path, monkeypatch):
    before, model = getattr(progress, what), tiny_model()
    Progress(addition, 2, 3, 4, AccuracySettings()).scores_once(model, tmp_path)
    monkeypatch.setattr(progress, what, lambda *args, **more: copy.copy(before(*args, **more))[::-1] if args else {"new": "1"})
    Progress(addition, 2, 3, 4, AccuracySettings()).scores_once(model, tmp_path)
    assert len(evaluated) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"of": {}, "scores": {"eval/accuracy_N": 1.0}}'])
def test_a_damaged_file_is_replaced(content, model, evaluated, tmp_path):
    of = Progress(addition, 2, 3, 4, AccuracySettings())
    first = of.scores_once(model, tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_text()
    file.write_text(content)
    assert of.scores_once(model, tmp_path) == first
    assert len(evaluated) == 2
    assert file.read_text() == whole


def test_runs_of_a_model_share_the_evaluation_before_training(evaluated, tmp_path):
    save_model(tmp_path / "model", tiny_model(positions=320))
    small = recipes.algorithm(episodes=4, iterations=1, minibatch_size=2)

    def run(seed, runs, **more):
        tracking = TrackingConfig("disabled")
        config = recipes.finetuning(
            model=str(tmp_path / "model"),
            algorithm=small,
            evaluation_examples=2,
            seed=seed,
            runs=str(tmp_path / runs),
            tracking=tracking,
            **more,
        )
        history = finetune(config, progress=False)["history"]
        return [{key: value for key, value in step.items() if "second" not in key} for step in history]

    alone = run(0, "others")
    assert len(evaluated) == 2  # before and after
    assert run(1, "runs")[0] == alone[0]
    assert len(evaluated) == 4
    assert run(0, "runs") == alone
    assert len(evaluated) == 5, "that before was known"
    assert run(0, "unused", run_dir=str(tmp_path / "one")) == alone
    assert len(evaluated) == 7
    assert not (tmp_path / "unused").exists(), "nothing is written beside a run_dir"
