"""htc-train with every loss, on awkward documents, from a table, in two processes, with epochs selected by any metric."""

import json
import shutil
import subprocess
import sys

import pytest
import yaml

from htc.commands import predict as predict_app
from htc.commands import train as train_app
from htc.losses import OBJECTIVES

from .dashboard_panels import metrics_named, undocumented
from .entry_points import call
from .htc_runs import WORDS, common_arguments, place

__all__ = ["place"]  # a fixture


@pytest.mark.parametrize(
    "settings",
    [
        *([name] for name in OBJECTIVES),
        ["conditional_softmax", "loss.stop=true"],
        ["conditional_softmax_la", "loss.stop=true"],
        ["champ", "loss.recursive_regularization=0.001"],
        ["champ", "loss.reduction=sum"],
        ["focal", "loss.alpha=0.25"],
        ["conditional_softmax_la", "loss.priors=counts"],
        ["parameter_sharing_softmax", "loss.margin=1", "loss.margin_form=relative"],
    ],
    ids="-".join,
)
def test_every_loss_trains_and_predicts(settings, place, monkeypatch, capsys):
    run = place / "-".join(["every", *settings]).replace("=", "")
    arguments = [*common_arguments(place, settings[0]), *settings[1:], f"run_dir={run}", "training.epochs=1"]
    code, out, err = call(train_app, arguments, monkeypatch, capsys)
    assert code == 0, err
    assert "top_down_threshold" in out
    logged = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert metrics_named("htc") <= set(logged)
    assert not undocumented(logged)
    config = json.loads((run / "model/config.json").read_text())["loss"]
    assert config["name"] == settings[0]
    assert config.get("stop", False) == ("loss.stop=true" in settings)
    decoder = "expected_hf" if "softmax" in settings[0] else "top_down_threshold"
    arguments = [f"model={run / 'model'}", "text=atom energy", f"decoder={decoder}"]
    code, out, err = call(predict_app, arguments, monkeypatch, capsys)
    assert (code, out.splitlines()[0]) == (0, "atom energy"), err


TREE = "Root\tArts\tScience\nArts\tMusic\tFilm\n"
LEAVES = [["Arts", "Music"], ["Arts", "Film"], ["Science"]]
SEVERAL = [["Arts", "Music"], ["Science"]]
SUITABLE = {  # labels of training documents, of dev and test documents; objective, and why
    "leaves": (LEAVES, LEAVES, "conditional_softmax", "each training document has one path to a leaf"),
    "inner ends in dev and test": (LEAVES, [["Arts"]], "conditional_softmax", "has one path to a leaf"),
    "several paths in dev and test": (LEAVES, [SEVERAL], "conditional_softmax", "has one path to a leaf"),
    "some end early": ([["Arts"], ["Science"]], LEAVES, "conditional_softmax stop", "6 of 12 end at an inner node"),
    "some have several": (
        [SEVERAL, ["Arts"], ["Science"]],
        LEAVES,
        "bce_prior_bias",
        "4 of 12 training documents have several",
    ),
}


@pytest.mark.parametrize("case", SUITABLE)
def test_without_a_loss_the_training_labels_choose_it(case, place, tmp_path, monkeypatch, capsys):
    training, others, expected, reason = SUITABLE[case]
    (tmp_path / "labels.taxonomy").write_text(TREE)
    for split, labels in {"train": training, "dev": others, "test": others}.items():
        lines = [json.dumps({"text": f"words of {split} {i}", "label": labels[i % len(labels)]}) + "\n" for i in range(12)]
        (tmp_path / f"{split}.jsonl").write_text("".join(lines))
    name, stop = expected.split()[0], expected.endswith("stop")
    shared = [a for a in common_arguments(place) if not a.startswith(("loss=", "dataset.dir=", "runs="))]
    shared += [f"dataset.dir={tmp_path}", f"runs={tmp_path / 'runs'}", "training.epochs=1"]
    by_name = [f"loss={name}", *(["loss.stop=true"] if stop else [])]
    outcomes = []
    for loss in ([], by_name):
        code, out, err = call(train_app, [*shared, *loss], monkeypatch, capsys)
        assert code == 0, err
        outcomes.append(out)
        chosen = [line for line in err.splitlines() if line.startswith("loss: ")]
        assert len(chosen) == (loss != by_name)
        assert all(line.startswith(f"loss: {name}") and reason in line for line in chosen)
        assert all(("with a stop event" in line) == stop for line in chosen)
    assert outcomes[0] == outcomes[1], "the same run"
    (run,) = (tmp_path / "runs/htc/custom").iterdir()
    assert run.name.startswith(f"{name}-seed0-")
    saved = [yaml.safe_load((run / "config.yaml").read_text()), json.loads((run / "model/config.json").read_text())]
    assert [(config["loss"]["name"], config["loss"].get("stop", False)) for config in saved] == [(name, stop)] * 2
    assert json.loads((run / "result.json").read_text())["loss"] == name


@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        ([SEVERAL], ["loss.stop=true"], "a stop event is for the softmax objectives"),
        ([["Arts"]], ["loss.recursive_regularization=0.1"], "conditional_softmax with loss.stop does not have"),
        (LEAVES, ["loss.prior_smoothing=nan"], "loss.prior_smoothing must be a finite number"),
        ([SEVERAL], ["loss.prior_smoothing=0"], "smoothing must be positive"),
        ([SEVERAL], ["select=dev/expected_hf/f1_macro"], "and those of bce_prior_bias are of several"),
    ],
)
def test_settings_that_do_not_go_with_the_chosen_loss(labels, settings, message, place, tmp_path, monkeypatch, capsys):
    (tmp_path / "labels.taxonomy").write_text(TREE)
    lines = [json.dumps({"text": f"words {i}", "label": labels[i % len(labels)]}) + "\n" for i in range(30)]
    (tmp_path / "documents.jsonl").write_text("".join(lines))
    shared = [a for a in common_arguments(place) if not a.startswith(("loss=", "dataset.dir="))]
    arguments = [*shared, f"dataset.dir={tmp_path}", f"run_dir={tmp_path / 'run'}", *settings]
    code, _, err = call(train_app, arguments, monkeypatch, capsys)
    assert (code, message in err.splitlines()[-1]) == (2, True), err


def test_a_rule_of_one_path_is_refused_for_probabilities_of_several(place, monkeypatch, capsys):
    run = place / "rules"
    arguments = [*common_arguments(place, "bce"), f"run_dir={run}", "training.epochs=1"]
    assert call(train_app, arguments, monkeypatch, capsys)[0] == 0
    arguments = [f"model={run / 'model'}", "text=atom"]
    code, _, err = call(predict_app, [*arguments, "decoder=expected_hf"], monkeypatch, capsys)
    assert code == 2
    assert "decoder=expected_hf takes the probabilities of one path" in err
    code, _, err = call(predict_app, [*arguments, "decoder=best"], monkeypatch, capsys)
    assert code == 2
    assert "decoder must be one of threshold, tuned_threshold" in err


@pytest.mark.parametrize("loss", ["conditional_softmax", "conditional_sigmoid"])
def test_awkward_documents(loss, place, tmp_path, monkeypatch, capsys):
    """Ragged depths, a name under two parents, a label with one document and one with none, long texts, other scripts."""
    (tmp_path / "labels.taxonomy").write_text(
        "Root\tArts\tScience\t科学\nArts\tBasics\tMusic\nScience\tBasics\nArts > Basics\tPaint\n科学\t物理\tунылый\n",
        encoding="utf-8",
    )
    documents = [(f"paint brush {i}", ["Arts", "Basics", "Paint"]) for i in range(12)]
    documents += [(f"measure weigh {i}", ["Science", "Basics"]) for i in range(12)]
    documents += [(f"art in general {i}", ["Arts"]) for i in range(12)]
    documents += [(f"力と光 {i}", ["科学", "物理"]) for i in range(12)]
    documents += [("song " * 5000, ["Arts", "Music"]), ("!", ["科学"])]
    lines = [json.dumps({"token": [text], "label": label}, ensure_ascii=False) for text, label in documents]
    (tmp_path / "documents.jsonl").write_text("\n".join(lines), encoding="utf-8")
    arguments = [a for a in common_arguments(place, loss) if not a.startswith("dataset.dir=")]
    arguments += [f"dataset.dir={tmp_path}", f"run_dir={tmp_path / 'run'}", "training.epochs=30", "training.learning_rate=1e-2"]
    arguments += ["loss.stop=true"] if loss == "conditional_softmax" else []
    code, out, err = call(train_app, arguments, monkeypatch, capsys)
    assert code == 0, err
    assert json.loads((tmp_path / "run/result.json").read_text())["dataset"]["nodes"] == 9
    decoder = "argmax_end" if loss == "conditional_softmax" else "top_down_threshold"
    assert json.loads((tmp_path / "run/model/config.json").read_text())["decoder"] == decoder
    arguments = [f"model={tmp_path / 'run/model'}", "format=jsonl"]
    arguments += [] if loss == "conditional_softmax" else ["decoder=top_down"]  # too few documents to be sure of anything
    code, out, err = call(predict_app, arguments, monkeypatch, capsys, stdin="paint brush\n力と光\n" + "song " * 5000 + "\n")
    assert code == 0, err
    first, second, _ = [json.loads(line)["labels"] for line in out.splitlines()]
    assert [step["label"] for step in first[0]] == ["Arts", "Basics", "Paint"]
    assert [step["label"] for step in second[0]][:1] == ["科学"]


def test_from_a_table_to_predictions(place, tmp_path, monkeypatch, capsys):
    rows = [f'"{words} {i}",{area},{topic}' for (area, topic), words in WORDS.items() for i in range(20)]
    (tmp_path / "mine.csv").write_text("\n".join(["text,area,topic", *rows]))
    arguments = [a for a in common_arguments(place) if not a.startswith("dataset")]
    arguments += ["dataset=table", f"dataset.file={tmp_path / 'mine.csv'}", f"run_dir={tmp_path / 'run'}"]
    code, out, err = call(train_app, [*arguments, "training.epochs=20"], monkeypatch, capsys)
    assert code == 0, err
    arguments = [f"model={tmp_path / 'run/model'}", "text=gene plant animal"]
    code, out, err = call(predict_app, arguments, monkeypatch, capsys)
    assert code == 0, err
    assert "Science" in out
    assert "Biology" in out


@pytest.mark.parametrize("asked_for", [False, True], ids=["by default", "asked for"])
def test_documents_go_to_wandb_only_when_asked_for(asked_for, place, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "staged"))
    monkeypatch.setattr("rlkl_htc_common.runs.tracking.INIT_TIMEOUT", 100)
    rows = [f"Körper SECRET{i} of a person,{('MARKED', 'OTHER')[i % 2]},{'ABC'[i % 3]}LEAF" for i in range(40)]
    (tmp_path / "mine.csv").write_text("\n".join(["text,area,topic", *rows]), encoding="utf-8")
    arguments = [a for a in common_arguments(place) if not a.startswith("dataset")]
    arguments += ["dataset=table", f"dataset.file={tmp_path / 'mine.csv'}", f"run_dir={tmp_path / 'run'}", "training.epochs=1"]
    arguments += ["tracking.documents=true"] if asked_for else []
    code, _, err = call(train_app, arguments, monkeypatch, capsys)
    assert code == 0, err
    (offline,) = (tmp_path / "run/wandb").glob("offline-run-*")
    (log,) = offline.glob("*.wandb")
    assert b"dev/hf1_auc" in log.read_bytes()
    files = [*(tmp_path / "run/wandb").rglob("*"), *(tmp_path / "staged").rglob("*")]
    content = {file.name: file.read_bytes() for file in files if file.is_file()}
    holding = {name for name, found in content.items() if any(m in found for m in (b"SECRET", b"MARKED", b"LEAF", b"person"))}
    assert {name.partition("_")[0] for name in holding if not name.startswith("tmp")} == (
        {"worst documents"} if asked_for else set()
    )
    assert bool(holding) == asked_for


def test_epochs_cannot_be_raised_and_it_says_why(place, tmp_path, monkeypatch, capsys):
    arguments = [*common_arguments(place), "tracking.mode=disabled", f"runs={tmp_path}"]
    code, out, err = call(train_app, [*arguments, "training.epochs=1"], monkeypatch, capsys)
    assert code == 0, err
    finished = out.rpartition("run: ")[2].strip()
    code, _, err = call(train_app, [*arguments, "training.epochs=2", f"run_dir={finished}"], monkeypatch, capsys)
    assert code == 2
    assert "(different: training.epochs): the learning rate falls over all epochs" in err
    assert "trained anew; choose another run_dir or remove that one" in err
    code, _, err = call(train_app, [*arguments, "training.epochs=2"], monkeypatch, capsys)
    assert code == 0, err
    assert f"{finished} differs in training.epochs only, and is not continued: the learning rate falls" in err


@pytest.mark.dist
@pytest.mark.parametrize("encoder", [pytest.param("minilm_frozen", marks=pytest.mark.slow), "minilm"])
def test_two_processes_make_the_steps_of_one(encoder, place):
    """Without dropout, torchrun gives the same scores; batches of 8, the last one of 4, and micro-batches of 3."""
    arguments = [*common_arguments(place, "conditional_softmax"), f"encoder={encoder}", "training.epochs=2", "head.dropout=0"]
    arguments += ["training.micro_batch_size=3", f"encoder.name={place / 'still'}"]
    still = place / "still"
    if not still.exists():
        shutil.copytree(place / "encoder", still)
        config = json.loads((still / "config.json").read_text())
        config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        (still / "config.json").write_text(json.dumps(config))
    results = {}
    starts = {"one": ["-m"], "two": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]}
    for name, start in starts.items():
        run = place / f"{name}-{encoder}"
        command = [sys.executable, *start, "htc.commands.train", *arguments, f"run_dir={run}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("run: ") == 1  # one process speaks
        results[name] = json.loads((run / "result.json").read_text())
        assert len((run / "metrics.jsonl").read_text().splitlines()) == 2
        assert not (run / "checkpoints").exists()
    one, two = results["one"]["test"], results["two"]["test"]
    assert two["hf1_auc"] == pytest.approx(one["hf1_auc"], abs=1e-3)
    assert two["curve"]["f1"] == pytest.approx(one["curve"]["f1"], abs=0.02)
    losses = [
        [json.loads(line)["train/loss"] for line in (place / f"{name}-{encoder}/metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["loss=bce", "select=dev/expected_hf/f1_macro"],
            "the rule expected_hf takes the probabilities of one path, and those of bce",
        ),
        (["select=dev/top_down/tree_distance"], "select must be null, one of dev/hf1_auc, dev/hf1_micro, or dev/RULE/METRIC"),
        (["select=null", "training.patience=2"], "training.patience needs a score"),
    ],
)
def test_what_cannot_select_epochs_is_refused_at_once(settings, message, place, monkeypatch, capsys):
    arguments = [*common_arguments(place), f"run_dir={place / 'refused'}", *settings]
    code, _, err = call(train_app, arguments, monkeypatch, capsys)
    assert (code, message in err) == (2, True), err
    assert not (place / "refused").exists()


def test_epochs_are_selected_by_any_metric_of_any_rule(place, monkeypatch, capsys):
    run = place / "selected"
    arguments = [*common_arguments(place), f"run_dir={run}", "select=dev/expected_hf/path_f1_macro", "training.patience=3"]
    code, _, err = call(train_app, arguments, monkeypatch, capsys)
    assert code == 0, err
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    kept = json.loads((run / "result.json").read_text())["kept"]
    assert kept["dev/expected_hf/path_f1_macro"] == max(line["dev/expected_hf/path_f1_macro"] for line in lines)
