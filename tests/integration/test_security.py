"""Files of other people: nothing in them is run, none of them leads to a file elsewhere, and reports show them as text."""

import ast
import json
import logging
import os
import pickle
import re
import sys
import zlib
from contextlib import nullcontext
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from htc.commands.predict import as_csv, as_text
from htc.datasets import load_custom, load_published
from htc.experiment.saved_model import load_model
from htc.labels.hierarchy import Hierarchy
from htc.report.documents import worst_table
from htc.report.errors_section import errors_sections, look_at
from rlkl.model.language_model import load_model as load_language_model
from rlkl.report.analysis import write_analysis_report
from rlkl.report.records import Summary
from rlkl.report.reproduction import write_rl_report
from rlkl.report.scratchpad_view import to_html, to_terminal
from rlkl_htc_common.commands.application import print_as_is, print_result, run_application
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.models.encoders import cached_features, load_encoder
from rlkl_htc_common.models.settings import EncoderConfig
from rlkl_htc_common.report import page as report
from rlkl_htc_common.report import sweep as sweep_report
from rlkl_htc_common.report.page import Section, Table, markdown_table, write_report
from rlkl_htc_common.report.records import read_record
from rlkl_htc_common.runs.sweeps import _output_to
from rlkl_htc_common.terminal import UNSAFE, printable

from .fuzzing import good, targets

SOURCES = sorted((Path(__file__).resolve().parents[2] / "packages").rglob("*.py"))

# In the source: what could run what is in a file.

REFUSED_CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}
REFUSED_PARTS = {"pickle", "cPickle", "_pickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}
HARMLESS = {"UnpicklingError", "resource_tracker"}  # of pickle: an exception; of joblib: what cleans up after its workers


def unsafe_in(source):
    """What in a source file could run code that a file holds: line and reason."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names if alias.name.split(".")[0] in REFUSED_PARTS]
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in REFUSED_PARTS:
            found += [(node.lineno, alias.name) for alias in node.names if alias.name not in HARMLESS]
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if called in REFUSED_CALLS:
                found.append((node.lineno, called))
            if re.fullmatch(r"(torch|t)\.load|torch\.hub\.load", called) and given.get("weights_only") != "True":
                found.append((node.lineno, "torch.load without weights_only=True"))
            if given.get("allow_pickle", "False") != "False" or given.get("trust_remote_code", "False") != "False":
                found.append((node.lineno, "allow_pickle or trust_remote_code"))
            if given.get("shell", "False") != "False":
                found.append((node.lineno, "shell"))
            if called.endswith(".from_pretrained") and called.startswith("Auto") and "trust_remote_code" not in given:
                found.append((node.lineno, "trust_remote_code=False is not given, so that transformers asks"))
            if called == "AutoModel.from_pretrained" and given.get("use_safetensors") != "True":
                found.append((node.lineno, "weights that may be pickled"))
    return found


def test_nothing_in_the_packages_runs_what_a_file_holds():
    assert len(SOURCES) > 80
    assert {file.name: unsafe_in(file.read_text()) for file in SOURCES if unsafe_in(file.read_text())} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "from pickle import loads",
        "eval(text)",
        "yaml.load(text)",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "np.load(file, allow_pickle=True)",
        "AutoModel.from_pretrained(name, use_safetensors=True)",
        "AutoTokenizer.from_pretrained(name, trust_remote_code=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=False)",
        "subprocess.run(command, shell=True)",
    ],
)
def test_what_is_looked_for_is_found(line):
    assert unsafe_in(line)


def test_no_config_turns_foreign_code_on():
    conf = Path(__file__).resolve().parents[2] / "conf"
    assert not [file for file in conf.rglob("*.yaml") if "trust_remote_code" in file.read_text()]


# Files that would run code if they were unpickled.


class Payload:
    """Unpickled, it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def trap(tmp_path):
    """A pickle, and the folder that it makes."""
    folder = tmp_path / "it-was-run"
    content = pickle.dumps(Payload(folder))
    pickle.loads(content)
    assert folder.is_dir(), "the trap works"
    folder.rmdir()
    yield content, folder
    assert not folder.exists()


def sign(folder):
    """Write the checksums of a checkpoint as it is now."""
    sums = {file.name: zlib.crc32(file.read_bytes()) for file in folder.iterdir() if file.name != "crc32.json"}
    (folder / "crc32.json").write_text(json.dumps(sums))


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint; `targets._trainer(checkpoint.parent)` resumes from it."""
    trainer = targets._trainer(tmp_path / "checkpoints")
    trainer.step, trainer.kept, trainer.best_step = 2, {"epoch": 1}, 2
    trainer.checkpoints.save_best(2, trainer.model)
    trainer._save()
    return tmp_path / "checkpoints" / "step-00000002"


@pytest.mark.parametrize("name", ["state.pt", "weights.safetensors"])
@pytest.mark.parametrize("archive", [False, True])
def test_a_pickle_in_a_checkpoint_is_not_run(name, archive, checkpoint, trap):
    content, folder = trap
    if archive:
        torch.save({"step": Payload(folder)}, checkpoint / name)  # the pickle in a zip file that torch makes of it
    else:
        (checkpoint / name).write_bytes(content)
    with pytest.raises(InputError, match="no checkpoint in"):  # the checksums tell
        targets._trainer(checkpoint.parent).resume()
    sign(checkpoint)
    with pytest.raises(InputError, match="does not fit this training"):
        targets._trainer(checkpoint.parent).resume()


def test_a_pickle_in_the_cache_of_features_is_not_run(tmp_path, trap):
    right = cached_features(good.encoder(), ["Text"], tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(trap[0])
    assert torch.equal(cached_features(good.encoder(), ["Text"], tmp_path / "cache"), right)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_a_pickle_for_the_weights_of_an_encoder_is_not_run(name, tmp_path, trap):
    files = {key: content for key, content in good.encoder_folder().items() if key != "model.safetensors"}
    good.write({**files, name: trap[0]}, tmp_path / "encoder")
    with pytest.raises(InputError, match="holds no model that transformers can load"):
        load_encoder(EncoderConfig(name=str(tmp_path / "encoder"), max_length=16))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_a_pickle_for_the_weights_of_a_language_model_is_not_run(name, tmp_path, trap):
    files = {key: content for key, content in good.language_model_folder().items() if key != "model.safetensors"}
    good.write({**files, name: trap[0]}, tmp_path / "model")
    with pytest.raises(InputError, match="cannot load the weights"):
        load_language_model(str(tmp_path / "model"))


@pytest.mark.parametrize("name", ["head.safetensors", "seen.safetensors"])
def test_a_pickle_in_a_saved_classifier_is_not_run(name, tmp_path, trap):
    good.write({**good.classifier_folder(), name: trap[0]}, tmp_path / "model")
    with pytest.raises(InputError, match="the saved model is damaged"):
        load_model(tmp_path / "model")


def test_yaml_of_a_run_makes_no_objects(tmp_path, trap):
    from rlkl_htc_common.runs.directory import RunDirectory

    call = f"!!python/object/apply:os.mkdir ['{trap[1]}']".encode()
    good.write({**good.run_folder(), "config.yaml": call}, tmp_path / "run")
    with pytest.raises(InputError, match=r"config.yaml is damaged"):
        RunDirectory(tmp_path / "run", good.RUN_CONFIG)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_that_comes_with_an_encoder_is_not_run_and_not_asked_about(file, tmp_path, trap, monkeypatch):
    files = dict(good.encoder_folder())
    config = json.loads(files[file])
    if file == "config.json":
        config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", "AutoModel": "mine.Mine"}}
    else:
        config |= {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["mine.Mine", None]}}
    code = f"import os\nos.mkdir({str(trap[1])!r})\nclass Mine:\n    pass\n"
    good.write({**files, file: json.dumps(config).encode(), "mine.py": code.encode()}, tmp_path / "encoder")
    monkeypatch.setattr("builtins.input", lambda *question: pytest.fail("the user was asked"))
    refused = pytest.raises(InputError, match="holds no model that transformers can load")
    with refused if file == "config.json" else nullcontext():  # there is a tokenizer beside its code
        load_encoder(EncoderConfig(name=str(tmp_path / "encoder"), max_length=16))


# Files that name others.


@pytest.mark.parametrize("named", ["../outside", "/dev/zero", "/etc/passwd", "step-00000001/../../outside", "link"])
def test_checksums_lead_to_no_file_elsewhere(named, checkpoint, monkeypatch):
    outside = checkpoint.parent / "outside"
    outside.write_bytes(b"elsewhere")
    (checkpoint / "link").symlink_to(outside)
    sums = json.loads((checkpoint / "crc32.json").read_text())
    (checkpoint / "crc32.json").write_text(json.dumps({named: zlib.crc32(b"elsewhere"), **sums}))
    opened = []
    monkeypatch.setattr("rlkl_htc_common.training.checkpoints._crc32", lambda file: opened.append(file) or 0)
    with pytest.raises(InputError, match=r"no checkpoint in .* can be read"):
        targets._trainer(checkpoint.parent).resume()
    assert all(file.parent == checkpoint and not file.is_symlink() for file in opened)


@pytest.mark.parametrize("name", ["weights.safetensors", "state.pt"])
def test_a_checkpoint_that_is_a_link_to_elsewhere_is_none(name, checkpoint):
    outside = checkpoint.parent / "outside"
    (checkpoint / name).rename(outside)
    (checkpoint / name).symlink_to(outside)
    with pytest.raises(InputError, match=r"no checkpoint in .* can be read"):
        targets._trainer(checkpoint.parent).resume()


def test_best_weights_that_are_a_link_are_not_copied(checkpoint):
    secret = checkpoint.parent.parent / "secret"
    secret.write_text("secret")
    (checkpoint / "best-00000009.safetensors").symlink_to(secret)
    targets._trainer(checkpoint.parent).resume()
    assert not (checkpoint.parent / "best-00000009.safetensors").exists()


def test_shards_of_an_encoder_lie_in_its_folder(tmp_path):
    files = dict(good.encoder_folder())
    (tmp_path / "outside.safetensors").write_bytes(files.pop("model.safetensors"))
    for name in ("../outside.safetensors", str(tmp_path / "outside.safetensors")):
        index = {"metadata": {}, "weight_map": {"embeddings.word_embeddings.weight": name}}
        good.write({**files, "model.safetensors.index.json": json.dumps(index).encode()}, tmp_path / "encoder")
        with pytest.raises(InputError, match=r"holds no model that transformers can load.*names files elsewhere"):
            load_encoder(EncoderConfig(name=str(tmp_path / "encoder"), max_length=16))


def test_labels_and_texts_that_look_like_paths_are_labels_and_texts(tmp_path):
    (tmp_path / "secret").write_text("secret")
    taxonomy = "Root\t../secret\t/etc/passwd\n"
    lines = "".join(json.dumps({"token": [f"../secret {n}"], "label": ["/etc/passwd"]}) + "\n" for n in range(20))
    good.write({"a.taxonomy": taxonomy.encode(), "documents.jsonl": lines.encode()}, tmp_path / "data")
    dataset = load_custom(tmp_path / "data")
    assert dataset.hierarchy.names == ("../secret", "/etc/passwd")
    assert all(text.startswith("../secret ") for text in dataset.texts)


def test_entities_of_blurbs_lead_to_no_file(tmp_path):
    (tmp_path / "secret").write_text("secret")
    files = dict(good.blurbs())
    name = "BlurbGenreCollection_EN_train.txt"
    declared = f'<!DOCTYPE book [<!ENTITY a SYSTEM "file://{tmp_path}/secret">]>\n'.encode()
    good.write({**files, name: declared + files[name].replace(b"&amp;", b"&a;")}, tmp_path / "data")
    assert "secret" not in "".join(load_published("bgc", tmp_path / "data").texts)


# Reports.

EVIL = "<script>alert('1')</script>\"'><img src=x onerror=alert(2)>&amp;|\nnext"
TIDY = " ".join(EVIL.split())


class Page(HTMLParser):
    """A page as a browser takes it: the elements of each kind, all attributes, and the text outside of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.attributes, self.text, self.within = [], [], "", ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.within = tag
        self.elements.append(tag)
        self.attributes += [name for name, _ in attributes]

    def handle_data(self, data):
        if self.within not in ("script", "style"):
            self.text += data


def check(page, count=1):
    """What is evil is in the page, as text, and nothing of it is an element."""
    parsed = Page(page)
    assert "img" not in parsed.elements
    assert parsed.elements.count("script") <= 1, "the page's own"
    assert not any(name.startswith("on") for name in parsed.attributes)
    assert "alert('1')</script>" not in page
    found = " ".join(parsed.text.split()).count(TIDY)
    assert found >= count, f"{found} of {count} are in the page"


def test_every_part_of_a_report_is_escaped(tmp_path):
    table = Table([EVIL, "b"], [[EVIL, EVIL]], caption=EVIL, best={(0, 0)}, texts={1})
    picture = report.Picture("<svg></svg>", EVIL)
    write_report(tmp_path / "report.html", EVIL, EVIL, [Section(EVIL, [EVIL], [table], [picture])], [(EVIL, EVIL)])
    check((tmp_path / "report.html").read_text(), count=11)


def test_markdown_tables_keep_their_columns():
    lines = markdown_table(Table([EVIL, "b"], [[EVIL, "1"], ["a", "2|3"]], best={(0, 0)})).splitlines()
    assert len(lines) == 4
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines] == [3, 3, 3, 3]


@pytest.fixture
def dataset(tmp_path):
    """Documents with evil texts and labels."""
    taxonomy = f"Root\t{TIDY}\tArts\n{TIDY}\tx{TIDY}\ty\n"
    labels = [[TIDY, f"x{TIDY}"], [TIDY, "y"], ["Arts"]]
    lines = "".join(json.dumps({"token": [f"{n} {EVIL}"], "label": labels[n % 3]}) + "\n" for n in range(60))
    good.write({"a.taxonomy": taxonomy.encode(), "documents.jsonl": lines.encode()}, tmp_path / "data")
    return load_custom(tmp_path / "data", name=EVIL)


def test_documents_and_labels_in_the_report_of_htc(dataset, tmp_path):
    test = dataset.splits["test"]
    probabilities = torch.rand(len(test), dataset.hierarchy.num_nodes, generator=torch.Generator().manual_seed(0))
    sections = errors_sections(look_at(EVIL, dataset, probabilities, "threshold", 0.5))
    write_report(tmp_path / "report.html", EVIL, dataset.describe(), sections, [("command", EVIL)])
    page = (tmp_path / "report.html").read_text()
    check(page, count=8)
    assert "<text" in sections[0].pictures[0].svg, "the labels are in the figure"


def test_documents_in_a_table_of_wandb(dataset):
    targets_, texts = dataset.targets.dense(), dataset.texts
    table = worst_table(dataset.hierarchy, texts, targets_, ~targets_, targets_.float())
    assert TIDY in table.rows[0][0]
    assert all(isinstance(cell, str) for row in table.rows for cell in row), (
        "wandb.Table escapes strings, and shows Html as it is"
    )


def record(number, **more):
    return {"number": number, "overrides": {EVIL: f"{number}{EVIL}"}, "command": EVIL, "run_dir": EVIL, "error": None} | more


def test_the_report_of_a_sweep(tmp_path, capsys):
    folder = tmp_path / "<b>sweep"
    records = [record(0, metrics={EVIL: 0.5}), record(1, metrics={EVIL: 0.6}), record(2, metrics={}, error=EVIL, run_dir=None)]
    for each in records:
        good.write({f"{each['number']}/job.json": json.dumps(each).encode()}, folder)
    assert sweep_report.finish("htc-train", folder) == 1
    page = (folder / "report.html").read_text()
    check(page, count=6)
    assert "<b>sweep" not in page
    table = (folder / "table.md").read_text().strip().splitlines()
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    assert len(table) == 4


PAD = {
    "prompt": EVIL,
    "text": EVIL,
    "certainty": [0.5] * len(EVIL),
    "right": False,
    "first_error": 3,
    "critical": [1, 2],
}


def test_scratchpads():
    page = to_html(PAD)
    parsed = Page(page)
    assert set(parsed.elements) == {"pre", "span"}
    assert set(parsed.attributes) == {"style", "title"}
    assert parsed.text.replace("↵", "").count(EVIL) == 2


def start():
    rows = [
        {"operands": "varying", "digits": digits, "accuracy": 0.5, "low": 0.4, "high": 0.6, "wrong": 1, "critical": 1.0}
        | {"operand_lists": 1.0, "fields": [{"step": 1, "field": EVIL, "count": 1}]}
        for digits in (5, 6)
    ]
    gaps = {"critical": {"mean": -0.2, "deviation": 0.1}}
    return {
        "model": EVIL,
        "fingerprint": EVIL,
        "task": "addition",
        "trained_digits": 5,
        "examples": 9,
        "rows": rows,
        "certainty": {"problems": 3, "gaps": gaps, "places": [{"step": 1, "field": EVIL, "certainty": 0.5}]},
        "scratchpads": [PAD],
    }


def test_the_report_of_rlkl(tmp_path):
    summary = {
        "starts": {EVIL: start(), "other": start()},
        "seeds": [],
        "methods": {},
        "compare": [],
        "axis": None,
        "steps": None,
        "pools": None,
    }
    summary |= {"git_commit": EVIL, "versions": {EVIL: EVIL}, "wall_seconds": 1.0, "runs": []}
    summary |= {"title": EVIL, "command": EVIL}
    page = write_rl_report(tmp_path, read_record(Summary, summary, "x")).read_text()
    check(page, count=10)
    lines = (tmp_path / "table.md").read_text().strip().splitlines()
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


def test_the_report_of_an_analysis(tmp_path):
    found = {"base_rate": 0.1, "average_precision": 0.5, "r_precision": 0.5, "curve": [{"recall": 0.5, "precision": 0.5}]}
    of = {"mean": 0.5, "low": 0.4, "high": 0.6}
    group = {"group": EVIL, "places": 3, "right": of, "wrong": of, "importance": of, "lost": None}
    moved = {"kl": 0.1, "changed": 0.1, "positions": [{"start": 0.0, "end": 1.0, "kl": 0.1}]}
    result = {
        "model": EVIL,
        "reference": EVIL,
        "fingerprint": EVIL,
        "task": "addition",
        "trained_digits": 5,
        "examples": 3,
        "problems": 3,
        "samples": 3,
        "detection": {"critical": {EVIL.replace("_", ""): found}},
        "counterfactual": {"groups": [group]},
        "drift": {EVIL: moved | {"fields": {EVIL: moved}}},
        "git_commit": EVIL,
        "versions": {EVIL: EVIL},
    }
    check(write_analysis_report(tmp_path, result | {"command": EVIL}).read_text(), count=9)


def test_a_hierarchy_is_saved_as_text(tmp_path):
    hierarchy = Hierarchy.from_paths([[EVIL]])
    hierarchy.save(tmp_path / "hierarchy.json")
    assert Hierarchy.load(tmp_path / "hierarchy.json") == hierarchy


# Terminals.

ESCAPES = "\x1b]0;owned\x07\x1b[2J\r\x9b2J\u202e\u2066\u2028\ud83d"
PREDICTION = {
    "text": f"two\nlines {ESCAPES}",
    "labels": [[{"label": f"a\n{ESCAPES}", "probability": 0.75}, {"label": "=1+1", "probability": 0.5}]],
}


def is_safe(shown):
    """Whether escapes are there to be read, and nothing that a terminal acts on."""
    return not UNSAFE.search(shown.replace("\n", "").replace("\t", "")) and r"\x1b]0;owned\x07" in shown


def fail(config, error):
    raise error(ESCAPES)


def complain(config):
    logging.getLogger("htc").warning("label %s", ESCAPES)
    logging.getLogger("py.warnings").warning(ESCAPES)


def call_application(task, tmp_path, monkeypatch, **more):
    good.write({"app/main.yaml": b"defaults: [app, _self_]\n"}, tmp_path)
    monkeypatch.setenv("RLKL_HTC_CONF", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["prog"])
    run_application(task, application="app", config="main", **more)


@pytest.mark.parametrize(
    ("task", "code", "lines"),
    [
        (partial(fail, error=InputError), 2, 1),
        (complain, 0, None),
        (lambda config: print_result(ESCAPES), 0, None),
        (lambda config: print_result(as_text(PREDICTION)), 0, None),
        (lambda config: print_as_is(as_csv(PREDICTION)), 0, None),
    ],
)
def test_what_an_entry_point_says_is_safe_for_a_terminal(task, code, lines, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        call_application(task, tmp_path, monkeypatch)
    said = "".join(capsys.readouterr())
    assert stop.value.code == code
    assert is_safe(said)
    assert lines is None or said.count("\n") == lines


def test_an_option_is_reported_safely(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["prog", f"--{ESCAPES.strip(chr(0xD83D))}"])
    with pytest.raises(SystemExit) as stop:
        run_application(print, application="htc", config="predict")
    assert stop.value.code == 2
    assert is_safe(capsys.readouterr().err)


def test_the_traceback_of_a_bug_is_safe_for_a_terminal(tmp_path, monkeypatch, capsys):
    with pytest.raises(KeyError) as caught:
        call_application(lambda config: {}[f"x{ESCAPES}"], tmp_path, monkeypatch)
    sys.excepthook(KeyError, caught.value, caught.tb)
    sys.excepthook(ValueError, ValueError(ESCAPES), None)
    assert is_safe(capsys.readouterr().err)


def test_a_prediction_for_people_has_a_line_for_the_text_and_each_label():
    lines = as_text(PREDICTION).split("\n")
    assert [line.strip()[:5] for line in lines] == [r"two\n", "75.0%", "50.0%"]
    assert as_csv(PREDICTION).endswith(' > =1+1",0.5')
    assert as_csv(PREDICTION | {"text": "=1"}).startswith("'=1,")


def test_jobs_of_a_sweep_are_reported_safely(tmp_path, capsys):
    with _output_to(tmp_path / "job.log"):
        logging.getLogger("htc").error("%s", ESCAPES)
    assert is_safe((tmp_path / "job.log").read_text())
    done = [record(number, metrics={"m": 0.5}) for number in range(2)]
    for each in (*done, record(2, metrics={}, error=f"{ESCAPES}\nnext", run_dir=None)):
        each["overrides"] = {"loss": f"{ESCAPES}{each['number']}"}
        good.write({f"{each['number']}/job.json": json.dumps(each).encode()}, tmp_path)
    sweep_report.finish("htc-train", tmp_path)
    said = capsys.readouterr()
    assert is_safe(said.out)
    assert is_safe(said.err)
    assert said.err.count("\n") == 1
    assert is_safe((tmp_path / "table.md").read_text())
    assert is_safe((tmp_path / "report.html").read_text())


def test_reports_show_escapes(tmp_path):
    section = Section(
        ESCAPES, [ESCAPES], [Table([ESCAPES], [[ESCAPES]], ESCAPES)], [report.Picture(f"<svg>{ESCAPES}</svg>", "x")]
    )
    write_report(tmp_path / "report.html", ESCAPES, ESCAPES, [section], [(ESCAPES, ESCAPES)])
    page = (tmp_path / "report.html").read_text()
    assert is_safe(page)
    assert page.count("owned") >= 9


@pytest.mark.parametrize("color", [True, False])
def test_scratchpads_have_no_colours_but_their_own(color):
    pad = PAD | {"prompt": ESCAPES, "text": ESCAPES, "certainty": [0.5] * len(ESCAPES)}
    shown = to_terminal(pad, color)
    ours = re.compile(r"\x1b\[(48;2;\d+;\d+;\d+;30)?;?(4;1)?m|\x1b\[0m")
    assert len(ours.findall(shown)) == (2 * len(ESCAPES) if color else 0)
    assert ours.sub("", shown) == printable(2 * ESCAPES)
