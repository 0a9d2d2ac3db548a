"""htc as its users meet it: the console entry points on a small dataset of their own, right and wrong input."""

import fcntl
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from transformers import BertConfig, BertModel

from common.encoders import EncoderConfig, load_encoder
from htc import evaluate as evaluate_app
from htc import predict as predict_app
from htc import reproduce as reproduce_app
from htc import train as train_app
from htc.build import LOSSES

WORDS = {
    ("Arts", "Music"): "song opera violin melody",
    ("Arts", "Film"): "movie actor camera scene",
    ("Science", "Physics"): "atom energy light force",
    ("Science", "Biology"): "cell gene plant animal",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a dataset of 120 documents and a tiny random encoder."""
    folder = tmp_path_factory.mktemp("place")
    data = folder / "data"
    data.mkdir()
    (data / "labels.taxonomy").write_text("Root\tArts\tScience\nArts\tMusic\tFilm\nScience\tPhysics\tBiology\n")
    generator = torch.Generator().manual_seed(0)
    with (data / "documents.jsonl").open("w") as file:
        for number in range(120):
            path = list(WORDS)[number % 4]
            words = WORDS[path].split()
            picked = torch.randint(len(words), (3 + number % 9,), generator=generator)
            text = " ".join(words[i] for i in picked) + f" number {number}"
            file.write(json.dumps({"token": [text], "label": list(path)}) + "\n")
    torch.manual_seed(0)
    minilm = load_encoder(EncoderConfig())
    config = BertConfig(
        vocab_size=len(minilm.tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    BertModel(config).save_pretrained(folder / "encoder")
    minilm.tokenizer.save_pretrained(folder / "encoder")
    return folder


def call(main, arguments, monkeypatch, capsys, stdin=None):
    """Run an entry point in this process. Returns: exit code, standard output, standard error."""
    monkeypatch.setattr(sys, "argv", ["prog", *map(str, arguments)])
    if stdin is not None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
    with pytest.raises(SystemExit) as stop:
        main()
    output = capsys.readouterr()
    return stop.value.code, output.out, output.err


def common_arguments(place, loss="conditional_softmax_la"):
    return [
        "dataset=custom",
        f"dataset.dir={place / 'data'}",
        f"encoder.name={place / 'encoder'}",
        f"runs={place / 'runs'}",
        f"cache_dir={place / 'cache'}",
        f"loss={loss}",
        "training.epochs=4",
        "training.batch_size=8",
        "head.hidden=32",
        "encoder.max_length=32",
    ]


@pytest.fixture(scope="module")
def trained(place):
    """The folder of a model, fine-tuned from the console."""
    command = [sys.executable, "-m", "htc.train", *common_arguments(place), f"run_dir={place / 'trained'}"]
    command += ["encoder=minilm", "training.encoder_learning_rate=3e-3", "training.learning_rate=1e-2", "training.epochs=6"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "argmax_leaf" in done.stdout
    return place / "trained/model"


@pytest.mark.parametrize(
    "settings",
    [
        *([name] for name in LOSSES),
        ["conditional_softmax", "loss.stop=true"],
        ["conditional_softmax_la", "loss.stop=true"],
        ["champ", "loss.recursive_regularization=0.001"],
    ],
    ids="-".join,
)
def test_every_loss_trains_and_predicts(settings, place, monkeypatch, capsys):
    run = place / "-".join(["every", *settings]).replace("=", "")
    arguments = [*common_arguments(place, settings[0]), *settings[1:], f"run_dir={run}", "training.epochs=1"]
    code, out, err = call(train_app.main, arguments, monkeypatch, capsys)
    assert code == 0, err
    assert "top_down_threshold" in out
    config = json.loads((run / "model/config.json").read_text())["loss"]
    assert config["name"] == settings[0]
    assert config["stop"] == ("loss.stop=true" in settings)
    decoder = "expected_hf" if "softmax" in settings[0] else "top_down_threshold"
    arguments = [f"model={run / 'model'}", "text=atom energy", f"decoder={decoder}"]
    code, out, err = call(predict_app.main, arguments, monkeypatch, capsys)
    assert (code, out.splitlines()[0]) == (0, "atom energy"), err


def test_a_rule_of_one_path_is_refused_for_probabilities_of_several(place, monkeypatch, capsys):
    run = place / "rules"
    arguments = [*common_arguments(place, "bce"), f"run_dir={run}", "training.epochs=1"]
    assert call(train_app.main, arguments, monkeypatch, capsys)[0] == 0
    arguments = [f"model={run / 'model'}", "text=atom"]
    code, _, err = call(predict_app.main, [*arguments, "decoder=expected_hf"], monkeypatch, capsys)
    assert code == 2
    assert "decoder=expected_hf takes the probabilities of one path" in err
    code, _, err = call(predict_app.main, [*arguments, "decoder=best"], monkeypatch, capsys)
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
    code, out, err = call(train_app.main, arguments, monkeypatch, capsys)
    assert code == 0, err
    assert json.loads((tmp_path / "run/result.json").read_text())["dataset"]["nodes"] == 9
    decoder = "argmax_end" if loss == "conditional_softmax" else "top_down_threshold"
    assert json.loads((tmp_path / "run/model/config.json").read_text())["decoder"] == decoder
    arguments = [f"model={tmp_path / 'run/model'}", "format=jsonl"]
    arguments += [] if loss == "conditional_softmax" else ["decoder=top_down"]  # too few documents to be sure of anything
    code, out, err = call(
        predict_app.main, arguments, monkeypatch, capsys, stdin="paint brush\n力と光\n" + "song " * 5000 + "\n"
    )
    assert code == 0, err
    first, second, _ = [json.loads(line)["labels"] for line in out.splitlines()]
    assert [step["label"] for step in first[0]] == ["Arts", "Basics", "Paint"]
    assert [step["label"] for step in second[0]][:1] == ["科学"]


def test_from_a_table_to_predictions(place, tmp_path, monkeypatch, capsys):
    rows = [f'"{words} {i}",{area},{topic}' for (area, topic), words in WORDS.items() for i in range(20)]
    (tmp_path / "mine.csv").write_text("\n".join(["text,area,topic", *rows]))
    arguments = [a for a in common_arguments(place) if not a.startswith("dataset")]
    arguments += ["dataset=table", f"dataset.file={tmp_path / 'mine.csv'}", f"run_dir={tmp_path / 'run'}"]
    code, out, err = call(train_app.main, [*arguments, "training.epochs=20"], monkeypatch, capsys)
    assert code == 0, err
    arguments = [f"model={tmp_path / 'run/model'}", "text=gene plant animal"]
    code, out, err = call(predict_app.main, arguments, monkeypatch, capsys)
    assert code == 0, err
    assert "Science" in out
    assert "Biology" in out


@pytest.mark.dist
@pytest.mark.parametrize("encoder", ["minilm_frozen", "minilm"])
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
        command = [sys.executable, *start, "htc.train", *arguments, f"run_dir={run}"]
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
    code, _, err = call(train_app.main, arguments, monkeypatch, capsys)
    assert (code, message in err) == (2, True), err
    assert not (place / "refused").exists()


def test_epochs_are_selected_by_any_metric_of_any_rule(place, monkeypatch, capsys):
    run = place / "selected"
    arguments = [*common_arguments(place), f"run_dir={run}", "select=dev/expected_hf/path_f1_macro", "training.patience=3"]
    code, _, err = call(train_app.main, arguments, monkeypatch, capsys)
    assert code == 0, err
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    kept = json.loads((run / "result.json").read_text())["kept"]
    assert kept["dev/expected_hf/path_f1_macro"] == max(line["dev/expected_hf/path_f1_macro"] for line in lines)


def test_a_run_leaves_what_it_should(trained):
    run = trained.parent
    assert {f.name for f in run.iterdir()} == {
        "config.yaml",
        "metrics.jsonl",
        "result.json",
        "documents.safetensors",
        "model",
        ".lock",
    }
    result = json.loads((run / "result.json").read_text())
    assert result["test"]["hf1_auc"] > 0.8, "the words tell the labels, so the model must have learnt them"
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 6
    assert {f.name for f in trained.iterdir()} == {
        "config.json",
        "hierarchy.json",
        "head.safetensors",
        "seen.safetensors",
        "encoder",
    }


def test_evaluating_the_saved_model_gives_the_numbers_of_training(trained, place, monkeypatch, capsys):
    arguments = [f"model={trained}", "dataset=custom", f"dataset.dir={place / 'data'}", f"cache_dir={place / 'cache'}"]
    code, out, _ = call(evaluate_app.main, [*arguments, f"output={place / 'scores.json'}"], monkeypatch, capsys)
    assert code == 0
    assert "test: 24 documents" in out
    scores = json.loads((place / "scores.json").read_text())["test"]
    expected = json.loads((trained.parent / "result.json").read_text())["test"]
    for rule, row in scores["rules"].items():
        low, high = row.pop("hf1_samples_interval")
        assert low <= row["hf1_samples"] <= high
        assert row == expected["rules"][rule]
    assert scores["hf1_auc"] == pytest.approx(expected["hf1_auc"], abs=1e-6)
    code, _, err = call(evaluate_app.main, [*arguments, f"output={place / 'scores.json'}"], monkeypatch, capsys)
    assert code == 2
    assert "exists; choose another output" in err


def test_predicting_from_the_command_line_a_file_and_standard_input(trained, place, monkeypatch, capsys):
    model = f"model={trained}"
    code, out, _ = call(predict_app.main, [model, "text=opera's melody, a=b (violin)"], monkeypatch, capsys)
    assert code == 0
    assert out.splitlines()[0] == "opera's melody, a=b (violin)"
    assert "Arts" in out.splitlines()[1]
    assert "Music" in out.splitlines()[2]
    (place / "texts.txt").write_text("atom energy\n\ncell gene plant\n")
    code, out, _ = call(predict_app.main, [model, f"input={place / 'texts.txt'}", "format=jsonl"], monkeypatch, capsys)
    labels = [[step["label"] for step in json.loads(line)["labels"][0]] for line in out.splitlines()]
    assert labels == [["Science", "Physics"], ["Science", "Biology"]]
    code, again, _ = call(
        predict_app.main, [model, "format=jsonl", "batch_size=1"], monkeypatch, capsys, stdin="atom energy\ncell gene plant\n"
    )
    for line, other in zip(out.splitlines(), again.splitlines(), strict=True):
        assert json.loads(line)["text"] == json.loads(other)["text"]
    (place / "texts.jsonl").write_text('{"text": "movie actor"}\n')
    code, out, _ = call(
        predict_app.main, [model, f"input={place / 'texts.jsonl'}", "decoder=tuned_threshold"], monkeypatch, capsys
    )
    assert "Film" in out


def test_probabilities_fall_along_the_path(trained, monkeypatch, capsys):
    _, out, _ = call(predict_app.main, [f"model={trained}", "text=light force", "format=jsonl"], monkeypatch, capsys)
    (path,) = json.loads(out)["labels"]
    assert path[0]["probability"] >= path[1]["probability"]


def test_the_last_model_is_the_default_and_its_absence_is_told(tmp_path, monkeypatch, capsys):
    code, _, err = call(predict_app.main, [f"runs={tmp_path}", "text=x"], monkeypatch, capsys)
    assert code == 2
    assert "no trained model under" in err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"token": ["a"], "label": ["Arts", "Musik"]}', "the label 'Musik' is not in the taxonomy; did you mean 'Music'?"),
        ('{"token": [""], "label": ["Arts", "Music"]}', "the document's text is empty"),
        ('{"token": ["a"], "label": []}', "the document has no label"),
        ('{"token": ["a"]}', "the document has no 'label'"),
        ('{"label": ["Arts"]}', "has neither 'token' nor 'text'"),
        ('{"token": ["a"], "label": ["Arts", "Music"]', "malformed JSON"),
        ('["a"]', "expected one JSON object a line"),
        ('{"token": ["a"], "label": "Arts"}', "'label' must be a list"),
        ('{"token": ["a"], "label": [["Arts"], "Music"]}', "names only, or paths"),
        ('{"token": 5, "label": ["Arts"]}', "'token' must be a text"),
    ],
)
def test_a_bad_document_is_told_with_its_line(line, message, place, tmp_path, monkeypatch, capsys):
    data = tmp_path / "data"
    data.mkdir()
    (data / "labels.taxonomy").write_text((place / "data/labels.taxonomy").read_text())
    (data / "documents.jsonl").write_text('{"token": ["fine"], "label": ["Arts", "Music"]}\n' + line + "\n")
    arguments = [*common_arguments(place), f"dataset.dir={data}", f"run_dir={tmp_path / 'run'}"]
    code, _, err = call(train_app.main, arguments, monkeypatch, capsys)
    assert code == 2
    last = err.splitlines()[-1]
    assert last.startswith(f"prog: {data / 'documents.jsonl'}:2: ")
    assert message in last


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dataset.dir=/no/such/folder"], "/no/such/folder: no such folder"),
        (["dataset.taxonomy=none.taxonomy"], "none.taxonomy: cannot read the taxonomy: No such file"),
        (["dataset.train=none.jsonl"], "none.jsonl: cannot read the documents: No such file"),
        (["training.epochs=0"], "training.epochs must be positive"),
        (["training.epoch=3"], "unknown key 'training.epoch'; did you mean 'epochs'?"),
        (["+epochs=3"], "unknown key 'epochs'; known here: cache_dir"),
        (["+training.epoch=3"], "unknown key 'training.epoch'"),
        (["training.epochs=three"], "training.epochs: Value 'three'"),
        (["loss=bse"], "Could not find 'loss/bse'"),
        (["loss.name=bse"], "loss.name must be one of bce"),
        (["dataset.dev_fraction=0.9"], "must be positive shares"),
        (["select=dev/accuracy"], "select must be null, one of dev/hf1_auc, dev/hf1_micro, or dev/RULE/METRIC, such as"),
        (["seed=-1"], "seed must be from 0"),
        (["head.hidden=0"], "head.hidden must be at least 1"),
        (["head.dropout=1.5"], "head.dropout must be"),
        (["encoder.batch_size=0"], "encoder.batch_size must be at least 1"),
        (["loss=bce_prior_bias", "loss.prior_smoothing=0"], "smoothing must be positive"),
        (["Broken wrist"], "expected key=value and read 'Broken wrist'"),
        (["encoder.name=no/model"], "cannot be had from the hub"),
    ],
)
def test_bad_settings_are_told(arguments, message, place, tmp_path, monkeypatch, capsys):
    code, _, err = call(
        train_app.main, [*common_arguments(place), f"run_dir={tmp_path / 'run'}", *arguments], monkeypatch, capsys
    )
    assert code == 2
    assert message in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_mistake_does_not_occupy_the_run_directory(place, tmp_path, monkeypatch, capsys):
    arguments = [*common_arguments(place), f"run_dir={tmp_path / 'run'}"]
    assert call(train_app.main, [*arguments, "loss.name=bse"], monkeypatch, capsys)[0] == 2
    assert call(train_app.main, [*arguments, "encoder.name=no/model"], monkeypatch, capsys)[0] == 2
    assert call(train_app.main, [*arguments, "training.epochs=1"], monkeypatch, capsys)[0] == 0


def test_documents_that_changed_are_noticed(place, tmp_path, monkeypatch, capsys):
    data = tmp_path / "data"
    data.mkdir()
    for file in (place / "data").iterdir():
        (data / file.name).write_text(file.read_text())
    arguments = [*common_arguments(place), f"dataset.dir={data}", f"run_dir={tmp_path / 'run'}", "training.epochs=1"]
    assert call(train_app.main, arguments, monkeypatch, capsys)[0] == 0
    text = (data / "documents.jsonl").read_text()
    (data / "documents.jsonl").write_text(text.replace('"Film"', '"Music"'))
    code, _, err = call(train_app.main, arguments, monkeypatch, capsys)
    assert (code, "holds a run with another config (different: data_fingerprint)" in err) == (2, True)


def test_documents_that_were_trained_on_are_not_for_testing(trained, place, monkeypatch, capsys):
    arguments = [f"model={trained}", "dataset=custom", f"dataset.dir={place / 'data'}", "dataset.split_seed=5"]
    code, _, err = call(evaluate_app.main, arguments, monkeypatch, capsys)
    assert code == 2
    assert "were trained on; draw the splits as the training did: dataset.split_seed=0" in err


def test_two_processes_on_one_run_are_refused(place, tmp_path, monkeypatch, capsys):
    arguments = [*common_arguments(place), f"run_dir={tmp_path / 'run'}"]
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        code, _, err = call(train_app.main, arguments, monkeypatch, capsys)
    assert (code, "another process is at work in" in err) == (2, True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"caf\xe9\n", ":1: the line is not UTF-8 text"),
        (b"\n\n", "there is no text in"),
    ],
)
def test_texts_that_cannot_be_read(trained, content, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "texts (1).txt").write_bytes(content)
    code, _, err = call(predict_app.main, [f"model={trained}", f"input={tmp_path / 'texts (1).txt'}"], monkeypatch, capsys)
    assert (code, message in err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seeds=[0,0]"], "an entry only once"),
        (["losses=[]"], "at least one entry"),
        (["jobs=0"], "jobs must be at least 1"),
        (["seed=7"], "takes seeds=[...]"),
    ],
)
def test_grids_that_are_none(place, arguments, message, monkeypatch, capsys):
    code, _, err = call(
        reproduce_app.main,
        ["experiment=hwv", f"dataset.dir={place / 'data'}", f"output={place / 'o'}", *arguments],
        monkeypatch,
        capsys,
    )
    assert (code, message in err) == (2, True)


def test_a_killed_reproduction_leaves_no_worker(place):
    arguments = [a for a in common_arguments(place) if not a.startswith(("loss=", "runs="))]
    arguments += [
        "experiment=hwv",
        "training.epochs=3000",
        f"runs={place / 'endless'}",
        f"output={place / 'endless_report'}",
        "jobs=2",
    ]
    process = subprocess.Popen([sys.executable, "-m", "htc.reproduce", *arguments], stderr=subprocess.DEVNULL)
    wait_for(lambda: len(list((place / "endless").glob("htc/hwv/*/checkpoints/step-*"))) >= 2)
    workers = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    assert len(workers) >= 2
    process.kill()
    process.wait()
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in workers))


def test_ctrl_c_stops_a_reproduction_soon_and_keeps_what_was_done(place):
    arguments = [a for a in common_arguments(place) if not a.startswith(("loss=", "runs="))]
    arguments += [
        "experiment=hwv",
        "training.epochs=3000",
        f"runs={place / 'stopped'}",
        f"output={place / 'stopped_report'}",
        "jobs=2",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "htc.reproduce", *arguments], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_for(lambda: len(list((place / "stopped").glob("htc/hwv/*/checkpoints/step-*"))) >= 2)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert list((place / "stopped").glob("htc/hwv/*/checkpoints/step-*"))


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_a_model_of_another_hierarchy_is_refused(trained, place, tmp_path, monkeypatch, capsys):
    (tmp_path / "labels.taxonomy").write_text("Root\tA\tB\n")
    (tmp_path / "documents.jsonl").write_text("".join(f'{{"token": ["t{i}"], "label": ["A"]}}\n' for i in range(20)))
    arguments = [f"model={trained}", "dataset=custom", f"dataset.dir={tmp_path}"]
    code, _, err = call(evaluate_app.main, arguments, monkeypatch, capsys)
    assert code == 2
    assert "was trained on another hierarchy (6 nodes)" in err


def test_a_damaged_model_is_refused(trained, tmp_path, monkeypatch, capsys):
    for file in trained.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "encoder").symlink_to(trained / "encoder")
    (tmp_path / "head.safetensors").write_bytes(b"broken")
    code, _, err = call(predict_app.main, [f"model={tmp_path}", "text=x"], monkeypatch, capsys)
    assert (code, "the saved model is damaged" in err) == (2, True)
    code, _, err = call(predict_app.main, [f"model={trained.parent}", "text=x"], monkeypatch, capsys)
    assert (code, f"did you mean {trained}?" in err) == (2, True)


def test_several_paths_are_refused_by_a_softmax_and_taken_by_bce(place, tmp_path, monkeypatch, capsys):
    (tmp_path / "labels.taxonomy").write_text((place / "data/labels.taxonomy").read_text())
    (tmp_path / "documents.jsonl").write_text(
        "".join(f'{{"token": ["song {i}"], "label": [["Arts", "Music"], ["Science"]]}}\n' for i in range(30))
    )
    arguments = [*common_arguments(place), f"dataset.dir={tmp_path}", f"run_dir={tmp_path / 'run'}"]
    code, _, err = call(train_app.main, arguments, monkeypatch, capsys)
    assert (code, f"{tmp_path / 'documents.jsonl'}:" in err and "needs a single path" in err) == (2, True)
    grid = ["experiment=hwv", f"dataset.dir={tmp_path}", f"runs={tmp_path / 'runs'}", f"output={tmp_path / 'o'}"]
    code, _, err = call(reproduce_app.main, grid, monkeypatch, capsys)
    assert (code, "leaf softmax needs one leaf and its ancestors" in err) == (2, True)
    assert not (tmp_path / "runs").exists(), "it is told before anything is trained"
    arguments = [*common_arguments(place, "bce"), f"dataset.dir={tmp_path}", f"run_dir={tmp_path / 'run2'}"]
    assert call(train_app.main, arguments, monkeypatch, capsys)[0] == 0


def test_kill_9_and_again_gives_the_same_result(place):
    arguments = [*common_arguments(place), "training.epochs=30", "training.checkpoint_steps=3"]
    command = [sys.executable, "-m", "htc.train", *arguments]
    whole, killed = place / "whole", place / "killed"
    subprocess.run([*command, f"run_dir={whole}"], capture_output=True, check=True, timeout=300)
    process = subprocess.Popen([*command, f"run_dir={killed}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while process.poll() is None and not list(killed.glob("checkpoints/step-*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was killed while it trained"
    subprocess.run([*command, f"run_dir={killed}"], capture_output=True, check=True, timeout=300)
    results = [json.loads((run / "result.json").read_text()) for run in (whole, killed)]
    for key in ("kept", "dev", "test"):
        assert results[0][key] == results[1][key]
    assert (whole / "metrics.jsonl").read_text() == (killed / "metrics.jsonl").read_text()
    weights = [(run / "model/head.safetensors").read_bytes() for run in (whole, killed)]
    assert weights[0] == weights[1]


def test_the_reproduction_ends_in_a_report_and_skips_what_is_done(place, monkeypatch, capsys):
    output = place / "report"
    arguments = [a for a in common_arguments(place) if not a.startswith("loss=")]
    arguments += ["experiment=hwv", "seeds=[0,1]", f"output={output}", "jobs=2", "title=Tiny"]
    code, out, err = call(reproduce_app.main, arguments, monkeypatch, capsys)
    assert code == 0, err
    assert "| conditional softmax |" in out
    page = (output / "report.html").read_text()
    assert page.count("<svg") == 8
    for words in ("Who wins, and where the winner changes", "Rare labels and deep ones", "What a model gets wrong"):
        assert words in page
    assert "95% over documents" in page
    summary = json.loads((output / "summary.json").read_text())
    assert list(summary["losses"]) == [
        "bce",
        "bce_prior_bias",
        "leaf_softmax",
        "conditional_softmax",
        "conditional_softmax_la",
    ]
    assert [run["documents"] for run in summary["losses"]["bce"]] == [24, 24]
    runs = list((place / "runs").glob("htc/hwv/*/result.json"))
    assert len(runs) == 2 * 5
    written = [run.stat().st_mtime_ns for run in runs]
    assert call(reproduce_app.main, arguments, monkeypatch, capsys)[0] == 0
    assert [run.stat().st_mtime_ns for run in runs] == written
