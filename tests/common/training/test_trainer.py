import json
import os
import resource
import signal
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rlkl_htc_common.errors import InputError
from rlkl_htc_common.runs.directory import RunDirectory
from rlkl_htc_common.runs.tracking import TrackingConfig, open_tracker
from rlkl_htc_common.training.batching import batches_by_length, epoch_batches
from rlkl_htc_common.training.checkpoints import CHECKSUMS, KEEP, Checkpoints, random_state, set_random_state
from rlkl_htc_common.training.settings import TrainingConfig
from rlkl_htc_common.training.trainer import (
    Trainer,
    TrainingData,
    cosine,
    linear,
    make_accelerator,
    parameter_groups,
    refuse_several_processes,
)

USUAL = TrainingConfig(epochs=3, batch_size=7, learning_rate=0.01, weight_decay=0.01, warmup_fraction=0.1, max_grad_norm=1.0)
CONFIG = replace(USUAL, batch_size=4, checkpoint_steps=2)


class Killed(BaseException):
    pass


def data():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(18, 5, generator=generator), torch.randn(18, 1, generator=generator)
    return x, y


def run_training(folder, config=CONFIG, stop=None, select="score", act=None, patience=None, precision="fp32"):
    """Train a small network with dropout; `stop` kills it after that many steps, `act` is called instead."""
    x, y = data()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    steps = 0

    def collate(rows):
        nonlocal steps
        if steps == stop:
            if act is None:
                raise Killed
            act()
        steps += 1
        return x[rows], y[rows]

    run = RunDirectory(folder, {"seed": 0})
    trainer = Trainer(
        model,
        lambda epoch: TrainingData(len(x), collate),
        nn.functional.mse_loss,
        config,
        seed=3,
        accelerator=make_accelerator(precision),
        checkpoints=Checkpoints(run.checkpoints),
        evaluate=lambda: {"score": -nn.functional.mse_loss(model(x), y).item()},
        select=select,
        patience=patience,
        progress=False,
    )
    with open_tracker(run, TrackingConfig("disabled"), main=True, job_type="train", resume_step=trainer.resume()) as tracker:
        kept = trainer.fit(tracker)
    metrics = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    return kept, metrics, {name: value.clone() for name, value in model.state_dict().items()}


def same(a, b):
    assert a[0] == b[0]
    assert a[1] == b[1]
    assert all(torch.equal(a[2][name], b[2][name]) for name in a[2])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return run_training(tmp_path_factory.mktemp("whole") / "run")


@pytest.mark.parametrize("stop", range(15))
def test_a_killed_run_continues_to_the_same_numbers(stop, uninterrupted, tmp_path):
    with pytest.raises(Killed):
        run_training(tmp_path / "run", stop=stop)
    same(run_training(tmp_path / "run"), uninterrupted)


def test_trainings_in_one_process_may_differ_in_precision(uninterrupted, tmp_path):
    half = run_training(tmp_path / "half", precision="bf16")
    assert half[1] != uninterrupted[1]
    same(run_training(tmp_path / "again"), uninterrupted)


def test_killed_again_and_again(uninterrupted, tmp_path):
    for stop in (3, 4, 2, 3):
        with pytest.raises(Killed):
            run_training(tmp_path / "run", stop=stop)
    same(run_training(tmp_path / "run"), uninterrupted)


@pytest.mark.parametrize("stop", range(15))
def test_ctrl_c_saves_and_stops(stop, uninterrupted, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_training(tmp_path / "run", stop=stop, act=lambda: os.kill(os.getpid(), signal.SIGINT))
    saved = tmp_path / f"run/checkpoints/step-{stop + 1:08d}"
    assert saved.is_dir(), "the step that was under way is finished and saved"
    assert signal.getsignal(signal.SIGINT) is before
    same(run_training(tmp_path / "run"), uninterrupted)


def test_a_finished_training_is_not_trained_again(uninterrupted, tmp_path):
    run_training(tmp_path / "run")
    same(run_training(tmp_path / "run", stop=0), uninterrupted)


def test_what_is_logged_of_an_epoch(uninterrupted):
    _, logged, _ = uninterrupted
    assert [line["train/learning_rate"] for line in logged] == pytest.approx([0.01 * (13 - done) / 13 for done in (2, 7, 12)])
    assert all(line["train/grad_norm"] > 0 for line in logged)
    assert not [name for line in logged for name in line if name.startswith("charts/")], "speeds differ each time"


def test_the_best_epoch_is_kept(uninterrupted, tmp_path):
    kept, metrics, _ = uninterrupted
    assert kept["score"] == max(line["score"] for line in metrics)
    last, metrics, _ = run_training(tmp_path / "run", select=None)
    assert last["score"] == metrics[-1]["score"]


def test_a_loss_that_is_not_finite_stops_with_the_last_checkpoint(tmp_path):
    with pytest.raises(InputError, match=r"the loss became (nan|inf) at step"):
        run_training(tmp_path / "run", replace(USUAL, batch_size=4, learning_rate=1e30, max_grad_norm=1e30))
    assert not list((tmp_path / "run").glob("**/.step-*"))


def test_only_the_last_checkpoints_are_kept(tmp_path):
    run_training(tmp_path / "run")
    assert len(list((tmp_path / "run/checkpoints").glob("step-*"))) == KEEP


def damage(file, how):
    content = file.read_bytes()
    if how == "missing":
        file.unlink()
    elif how == "truncated":
        file.write_bytes(content[: len(content) // 2])
    else:  # one bit of it
        middle = len(content) // 2
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


def last_checkpoint(run):
    return sorted((run / "checkpoints").glob("step-*"))[-1]


@pytest.mark.parametrize("how", ["missing", "truncated", "changed"])
@pytest.mark.parametrize("name", ["weights.safetensors", "state.pt", "best-*.safetensors", CHECKSUMS])
@pytest.mark.parametrize("stop", [7, 12])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(stop, name, how, uninterrupted, tmp_path, caplog):
    with pytest.raises(Killed):
        run_training(tmp_path / "run", stop=stop)
    damaged = last_checkpoint(tmp_path / "run")
    (file,) = damaged.glob(name)
    damage(file, how)
    same(run_training(tmp_path / "run"), uninterrupted)
    assert f"{damaged} is damaged" in caplog.text


def test_where_all_checkpoints_are_damaged_nothing_is_thrown_away(tmp_path):
    with pytest.raises(Killed):
        run_training(tmp_path / "run", stop=7)
    found = sorted((tmp_path / "run/checkpoints").glob("step-*"))
    for checkpoint in found:
        damage(checkpoint / "state.pt", "truncated")
    with pytest.raises(InputError, match=r"no checkpoint in .* can be read; remove that folder"):
        run_training(tmp_path / "run")
    assert sorted((tmp_path / "run/checkpoints").glob("step-*")) == found


@pytest.mark.parametrize("room", [0, 300, 2000])
def test_a_full_disk_is_reported_and_the_last_checkpoint_stays(room, uninterrupted, tmp_path):
    """Files that may not grow beyond a size stand for a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    fill = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(InputError, match=r"cannot write a checkpoint .* make room"):
            run_training(tmp_path / "run", stop=7, act=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "run/checkpoints").glob(".*"))
    same(run_training(tmp_path / "run"), uninterrupted)


def test_an_unknown_metric_to_select_by_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot select epochs by 'accuracy'; known: epoch, score"):
        run_training(tmp_path / "run", select="accuracy")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("batch_size", -1),
        ("learning_rate", 0.0),
        ("warmup_fraction", 2.0),
        ("precision", "fp8"),
        ("micro_batch_size", 0),
    ],
)
def test_impossible_values_are_refused(key, value, tmp_path):
    with pytest.raises(InputError, match=rf"training\.{key} must be"):
        run_training(tmp_path / "run", replace(USUAL, **{key: value}))


def test_parameter_groups():
    model = nn.ModuleDict({"encoder": nn.Linear(2, 2), "head": nn.Linear(2, 2), "frozen": nn.Linear(2, 2)})
    model["frozen"].requires_grad_(False)
    groups = parameter_groups(model, 1e-3, 0.1, encoder_learning_rate=2e-5)
    assert sorted((g["lr"], g["weight_decay"], len(g["params"])) for g in groups) == [
        (2e-5, 0.0, 1),
        (2e-5, 0.1, 1),
        (1e-3, 0.0, 1),
        (1e-3, 0.1, 1),
    ]


def test_random_state_survives_a_file(tmp_path):
    torch.save(random_state(), tmp_path / "state.pt")
    expected = torch.rand(3)
    set_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(torch.rand(3), expected)


@given(size=st.integers(1, 300), batch=st.integers(1, 40), seed=st.integers(0, 99), bucketed=st.booleans())
def test_an_epoch_has_every_item_once(size, batch, seed, bucketed):
    lengths = torch.arange(size) % 7 if bucketed else None
    batches = epoch_batches(size, batch, seed, 2, lengths)
    assert sorted(torch.cat(batches).tolist()) == list(range(size))
    assert len(batches) == -(-size // batch)
    again = epoch_batches(size, batch, seed, 2, lengths)
    assert all(torch.equal(a, b) for a, b in zip(batches, again, strict=True))


def test_buckets_save_padding():
    lengths = torch.randint(1, 500, (2000,))

    def padded(batches):
        return sum(len(b) * int(lengths[b].max()) for b in batches)

    assert padded(epoch_batches(2000, 16, 0, 0, lengths)) < 0.6 * padded(epoch_batches(2000, 16, 0, 0))
    assert padded(batches_by_length(lengths, 16)) < 1.1 * int(lengths.sum())


def test_learning_rates_warm_up_and_decay():
    assert [linear(progress) for progress in (0.0, 0.25, 1.0)] == [1.0, 0.75, 0.0]
    assert [cosine(progress) for progress in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.55, 0.1])
    assert cosine(1.0, final=0.0) == pytest.approx(0.0)


def plain(folder, **settings):
    """The weights of a network without dropout after a training."""
    x, y = data()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))
    scores, patience = iter(settings.pop("scores", range(100))), settings.pop("patience", None)
    run = RunDirectory(folder, {"seed": 0})
    trainer = Trainer(
        model,
        lambda epoch: TrainingData(len(x), lambda rows: (x[rows], y[rows])),
        nn.functional.mse_loss,
        replace(USUAL, **settings),
        seed=3,
        accelerator=make_accelerator(),
        checkpoints=Checkpoints(run.checkpoints),
        evaluate=lambda: {"score": next(scores)},
        select="score",
        patience=patience,
        progress=False,
    )
    with open_tracker(run, TrackingConfig("disabled"), main=True, job_type="train", resume_step=trainer.resume()) as tracker:
        kept = trainer.fit(tracker)
    return kept, run.metrics(), model.state_dict()


@pytest.mark.parametrize("micro_batch_size", [1, 2, 3, 7, 100])
def test_parts_of_a_batch_make_the_same_step(micro_batch_size, tmp_path):
    """Also where the last batch, of 4, and the last part are smaller."""
    _, whole, expected = plain(tmp_path / "whole")
    _, parts, weights = plain(tmp_path / "parts", micro_batch_size=micro_batch_size)
    for name, value in weights.items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-5)
    assert [line["train/loss"] for line in parts] == pytest.approx([line["train/loss"] for line in whole], abs=1e-6)


def test_patience_ends_a_training_that_gets_no_better(tmp_path):
    kept, lines, _ = plain(tmp_path / "run", epochs=10, patience=2, scores=[1, 3, 2, 2, 9, 9, 9])
    assert kept == {"epoch": 2, "score": 3}
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    kept, lines, _ = plain(tmp_path / "long", epochs=6, patience=3, scores=[1, 3, 2, 2, 9, 9])
    assert (kept["epoch"], len(lines)) == (5, 6)
    again, lines, _ = plain(tmp_path / "run", epochs=10, patience=2, scores=[])  # it is over for good
    assert again == {"epoch": 2, "score": 3}
    assert len(lines) == 4


def test_patience_needs_a_score(tmp_path):
    with pytest.raises(InputError, match=r"training\.patience needs a score"):
        run_training(tmp_path / "run", USUAL, select=None, patience=2)


def test_what_one_process_does_is_refused_under_torchrun(monkeypatch):
    refuse_several_processes()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="start it without torchrun"):
        refuse_several_processes()


def test_a_first_score_that_is_no_number_is_not_kept(tmp_path):
    kept, _, _ = plain(tmp_path / "run", epochs=4, scores=[float("nan"), 1, 3, 2])
    assert kept == {"epoch": 3, "score": 3}


def test_the_kept_scores_and_weights_are_of_one_epoch_after_a_kill_between_them(tmp_path, monkeypatch):
    """Killed when the best weights of epoch 2 are saved, before the checkpoint: it is done again, and scores otherwise."""
    save = Checkpoints.save

    def killed_in_epoch_2(self, step, *rest):
        if step == 6:
            raise Killed
        save(self, step, *rest)

    monkeypatch.setattr(Checkpoints, "save", killed_in_epoch_2)
    with pytest.raises(Killed):
        plain(tmp_path / "run", scores=[1, 5, 0])
    monkeypatch.setattr(Checkpoints, "save", save)
    kept, _, weights = plain(tmp_path / "run", scores=[0.5, 0])  # epochs 2 and 3, again
    assert kept == {"epoch": 1, "score": 1}
    _, _, expected = plain(tmp_path / "whole", scores=[1, 0.5, 0])
    assert all(torch.equal(weights[name], expected[name]) for name in weights)
