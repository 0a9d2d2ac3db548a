"""Broken files and command lines: every reader takes them or says in one sentence what is wrong; and what fuzzing found."""

import json
import zlib

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from htc.datasets import load_custom, load_table
from htc.experiment.saved_model import load_model
from rlkl.model.completion import check_positions
from rlkl.model.language_model import load_model as load_language_model
from rlkl.tasks.registry import task_named
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.models.encoders import cached_features, load_encoder
from rlkl_htc_common.models.settings import EncoderConfig
from rlkl_htc_common.runs.directory import RunDirectory
from rlkl_htc_common.runs.tracking import Tracker, TrackingConfig

from .fuzzing import good, main, source, targets, worker

SLOW = {"command_line": 2, "configs": 1, "encoder": 8, "checkpoints": 8, "saved_classifier": 20, "language_model": 20}
FEW = settings(suppress_health_check=list(HealthCheck), max_examples=40)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_good_files_are_taken(name, tmp_path):
    targets.TARGETS[name](tmp_path, source.Source(b""))


@pytest.mark.parametrize("name", targets.TARGETS)
def test_broken_files_are_reported(name):
    @settings(FEW, max_examples=SLOW.get(name, 40))
    @given(st.binary(max_size=80))
    def check(data):
        targets.run(targets.TARGETS[name], data)

    check()


def raw(*choices):
    """The bytes that make a target, after some choices, take the rest as the content of a file."""
    return bytes([*choices, 1])


names = st.sampled_from(["Root", "root", "A", "B", "C", "A > B", " ", "", "é", "\u2028", "Root > A", '"', "A\r"])


@FEW
@given(st.lists(st.lists(names, max_size=4), max_size=6))
@example([["Root > A", "B"], ["B", "Root > A"]])
def test_taxonomies_of_all_kinds(rows):
    targets.run(targets.taxonomy, raw() + "\n".join("\t".join(row) for row in rows).encode())


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["Arts", "Music", "", "\ud800", " ", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["token", "label", "text"]), inner, max_size=3),
    max_leaves=8,
)


@FEW
@given(st.lists(values | st.fixed_dictionaries({"token": values, "label": values}), min_size=1, max_size=3))
def test_documents_of_all_kinds(records):
    content = "".join(json.dumps(record) + "\n" for record in records).encode()
    targets.run(targets.documents, raw(0) + good.documents() + content)
    targets.run(targets.texts, raw(1) + content)


@FEW
@given(
    st.integers(0, 3),
    st.lists(st.sampled_from(["text", "area", ",", ";", "\t", '"', "\n", "\r", "\0", "sep=", "é"]), max_size=20),
)
def test_tables_of_all_kinds(kind, parts):
    targets.run(targets.table, raw(kind, 0, 0) + "".join(parts).encode())


@FEW
@given(st.lists(st.sampled_from([*source.FRAGMENTS, b"seed", b"\n", b"  ", b"a"]), max_size=12))
def test_configs_of_runs_of_all_kinds(parts):
    targets.run(targets.run_directory, raw(0) + b"".join(parts))


# What fuzzing found, one reader at a time.


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"token": ' + 100_000 * "[", "documents.jsonl:2: the JSON holds lists too deep"),
        (
            '{"token": ["a"], "year": ' + 5000 * "9" + "}",
            "lists too deep, or a number too long",
        ),
    ],
)
def test_json_that_python_does_not_read(line, problem, tmp_path):
    (tmp_path / "a.taxonomy").write_bytes(good.TAXONOMY)
    (tmp_path / "documents.jsonl").write_text(good.documents(1).decode() + line)
    with pytest.raises(InputError, match=problem):
        load_custom(tmp_path)


def test_a_separator_of_several_characters(tmp_path):
    (tmp_path / "a.csv").write_text("sep=ab\ntextabarea\n")
    with pytest.raises(InputError, match=r"a.csv:1: sep= must name the one character that separates cells, not 'ab'"):
        load_table(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("sep=;\ntext;area\nx;A\n;A\n")
    with pytest.raises(InputError, match=r"a.csv:4: the text .* is empty"):
        load_table(tmp_path / "a.csv")


def changed(folder, files, name, change):
    """Files in a folder, one of them JSON that is changed."""
    content = json.loads(files[name])
    change(content)
    good.write({**files, name: json.dumps(content).encode()}, folder)
    return folder


def at(*keys, value):
    """A change of JSON: a value by its keys."""

    def change(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (at("decoder", value="[[]]"), "decoder must be one of"),
        (at("head", "hidden", value="4"), "hidden is '4'"),
        (at("head", "hidden", value=10**12), "does not fit config.json"),
        (at("head", "dropout", value=7.0), "head.dropout must be"),
        (at("loss", "recursive_regularization", value=float("nan")), "recursive_regularization is nan"),
        (at("encoder", "name", value=["a"]), "name is"),
        (at("encoder", value=[]), "must be a mapping|saved model is damaged"),
    ],
)
def test_a_saved_model_whose_config_was_changed(change, problem, tmp_path, monkeypatch):
    monkeypatch.setattr("htc.experiment.saved_model.load_encoder", lambda config: good.encoder())
    folder = changed(tmp_path, good.classifier_folder(), "config.json", change)
    with pytest.raises(InputError, match=problem):
        load_model(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b"\xff"),
        ("config.json", None),
        ("tokenizer_config.json", b'{"unk_token": []}'),
    ],
)
def test_an_encoder_whose_files_were_changed(name, content, tmp_path):
    files = good.encoder_folder()
    if content is None:
        changed(tmp_path, files, name, at("intermediate_size", value=[[]]))
    else:
        good.write({**files, name: content}, tmp_path)
    with pytest.raises(InputError, match=r"the encoder .* holds no model that transformers can load|cannot be used with"):
        load_encoder(EncoderConfig(name=str(tmp_path), max_length=16))


def test_damaged_features_are_computed_again(tmp_path, caplog):
    right = cached_features(good.encoder(), ["Text", "."], tmp_path)
    (file,) = tmp_path.iterdir()
    for content in (b"", file.read_bytes()[:40], good.classifier_folder()["head.safetensors"]):
        file.write_bytes(content)
        assert torch.equal(cached_features(good.encoder(), ["Text", "."], tmp_path), right)
        assert str(file) in caplog.text
        caplog.clear()
    assert torch.equal(cached_features(good.encoder(), ["Text", "."], tmp_path), right)
    assert not caplog.text, "it was written anew"


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("config.json", at("n_layer", value=10**9), "of other sizes than config.json says"),
        ("config.json", at("n_embd", value=10**9), "of other sizes than config.json says"),
        ("config.json", at("n_head", value=[1]), "cannot load the model"),
        ("config.json", at("n_head", value=0), "cannot load the weights"),
        ("config.json", at("activation_function", value="x"), "cannot load the weights"),
        ("tokenizer.json", at("model", value=[]), "cannot load the model"),
        ("tokenizer.json", at("model", "vocab", value=3), "cannot load the model"),
    ],
)
def test_a_language_model_whose_files_were_changed(name, change, problem, tmp_path):
    folder = changed(tmp_path, good.language_model_folder(), name, change)
    with pytest.raises(InputError, match=problem) as caught:
        load_language_model(str(folder))
    assert "\n" not in str(caught.value)


def test_a_billion_digits_are_refused_without_writing_them():
    with pytest.raises(InputError, match="positions and the model has 768"):
        check_positions(task_named("addition"), 768, 10**9)


@pytest.mark.parametrize(
    "content",
    [b"a: [", b"\xff", b"\0", b"- 1", b"1", b"? [a]\n: 1", b"a: &a {b: *a}", b"{1: a, b: c}", b"!!python/name:os.system"],
)
def test_a_run_whose_config_cannot_be_read(content, tmp_path):
    good.write({**good.run_folder(), "config.yaml": content}, tmp_path)
    with pytest.raises(InputError, match=r"config.yaml is damaged") as caught:
        RunDirectory(tmp_path, good.RUN_CONFIG)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", 9000 * b"["])
def test_a_result_that_cannot_be_read(content, tmp_path):
    good.write({**good.run_folder(), "result.json": content}, tmp_path)
    with pytest.raises(InputError, match=r"result.json .*; remove it to run this again"):
        RunDirectory(tmp_path, good.RUN_CONFIG).result()


@pytest.mark.parametrize(
    "line", [b"5", b"[]", b"{}", b"\xff", b'{"step": "1"}', b'{"step": 2, "a', b'{"step": null}', 9000 * b"["]
)
def test_a_log_of_metrics_with_a_damaged_line(line, tmp_path, caplog):
    first = b'{"step": 1, "loss": 0.5}\n'
    good.write({**good.run_folder(), "metrics.jsonl": first + line + b'\n{"step": 3, "loss": 0.1}\n'}, tmp_path)
    run = RunDirectory(tmp_path, good.RUN_CONFIG)
    with Tracker(run, TrackingConfig(mode="disabled"), job_type="train", name="run", resume_step=9) as tracker:
        tracker.log(10, {"loss": 0.2})
    assert run.metrics() == [{"step": 1, "loss": 0.5}, {"step": 10, "loss": 0.2}]
    assert "metrics.jsonl:2 is damaged" in caplog.text
    run.metrics_file.write_bytes(first + b"{")
    with pytest.raises(InputError, match=r"metrics.jsonl:2 is damaged"):
        run.metrics()


def checkpoint(folder, step=2):
    """A checkpoint of a trainer."""
    trainer = targets._trainer(folder)
    trainer.step, trainer.kept, trainer.best_step = step, {"epoch": 1}, step
    trainer.checkpoints.save_best(step, trainer.model)
    trainer._save()
    return folder / f"step-{step:08d}"


def sign(folder):
    """Write the checksums of a checkpoint as it is now."""
    sums = {file.name: zlib.crc32(file.read_bytes()) for file in folder.iterdir() if file.name != "crc32.json"}
    (folder / "crc32.json").write_text(json.dumps(sums))


@pytest.mark.parametrize("content", ["[]", "{}", "1", "null", 9000 * "[", '{"state.pt": 1}', '[["state.pt", 1]]'])
def test_checksums_that_are_none(content, tmp_path):
    (checkpoint(tmp_path) / "crc32.json").write_text(content)
    with pytest.raises(InputError, match=r"no checkpoint in .* can be read"):
        targets._trainer(tmp_path).resume()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("step", "a"),
        ("kept", 3),
        ("optimizers", []),
        ("optimizers", [{}]),
        ("schedules", None),
        ("random", []),
        ("best_step", "../x"),
    ],
)
def test_a_checkpoint_of_another_training(key, value, tmp_path):
    folder = checkpoint(tmp_path)
    state = torch.load(folder / "state.pt", weights_only=True)
    torch.save({**state, key: value}, folder / "state.pt")
    sign(folder)
    with pytest.raises(InputError, match="the last checkpoint does not fit this training"):
        targets._trainer(tmp_path).resume()


@pytest.mark.parametrize(
    ("package", "application", "argument", "problem"),
    [
        ("htc", "train", "loss=3", "an override, or a file of conf/, cannot be read"),
        ("htc", "train", "seed=" + 5000 * "9", "cannot be read"),
        ("rlkl", "evaluate", "digits=" + 2000 * "[" + 2000 * "]", "cannot be read"),
        ("htc", "train", "training.learning_rate=nan", "training.learning_rate must be positive and finite"),
        ("htc", "train", "training.encoder_learning_rate=nan", "training.encoder_learning_rate must be positive and finite"),
        ("htc", "train", "loss.prior_smoothing=nan", "loss.prior_smoothing must be a finite number"),
        (
            "rlkl",
            "pretrain",
            "training.muon_learning_rate=nan",
            "training.muon_learning_rate must be positive or null, not nan",
        ),
        ("rlkl", "pretrain", "training.muon_weight_decay=nan", "training.muon_weight_decay must not be negative, but is nan"),
        ("rlkl", "pretrain", "training.weight_decay=inf", "training.weight_decay must not be negative or infinite"),
        ("htc", "predict", "text=\udcff", "is not UTF-8 text"),
        ("htc", "predict", "two\nlines of text", "expected key=value and read 'two\\nlines of text'"),
        ("rlkl", "finetune", "seed=${nothing}", "seed: Interpolation key 'nothing' not found"),
    ],
)
def test_command_lines_that_hydra_does_not_read(package, application, argument, problem, tmp_path):
    arguments = [*targets.GIVEN[package], argument] if application != "predict" else [argument]
    assert problem in error_of(tmp_path, package, application, arguments)


def error_of(folder, package, application, arguments):
    """What an entry point says of a command line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(targets, "GIVEN", {package: arguments})
        with pytest.raises(InputError) as caught:
            targets._call(folder, package, application, arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# The fuzzer itself.


def test_a_finding_is_a_finding(tmp_path):
    def reader(folder, source):
        content = source.rest()
        if content == b"key":
            raise KeyError("a")
        if content == b"lines":
            raise InputError("two\nlines")
        raise InputError("a sentence.")

    targets.run(reader, b"")
    with pytest.raises(KeyError):
        targets.run(reader, b"key")
    with pytest.raises(targets.FindingError, match="no sentence on one line"):
        targets.run(reader, b"lines")
    recorder = worker.Recorder(lambda data: targets.run(reader, data), 60, tmp_path)
    for data in (b"", b"key", b"key", b"lines"):
        recorder(data)
    recorder.write()
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["inputs"] == 4
    assert [(finding["exception"], finding["times"]) for finding in record["findings"]] == [
        ("KeyError", 2),
        ("FindingError", 1),
    ]
    assert (tmp_path / record["findings"][0]["input"]).read_bytes() == b"key"


def test_every_target_is_run():
    assert main.known_targets() == list(targets.TARGETS)


def test_without_atheris_inputs_are_changed_with_a_seed():
    first, second = (
        [next(stream) for _ in range(300)]
        for stream in (worker.mutations(list(worker.SEEDS)), worker.mutations(list(worker.SEEDS)))
    )
    assert first == second
    assert len(set(first)) > 150
