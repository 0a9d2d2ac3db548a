"""htc-demo: its page in a real browser, and the tables that it labels."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from threading import Event

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.image import imread

import htc
from htc import InputError
from htc.commands import demo as demo_app
from htc.commands import predict as predict_app
from htc.commands.demo import label_table
from htc.decoding.by_name import ALL_RULES, decode
from htc.demo.answers import answers_of, ways_of
from htc.demo.server import opened

from .entry_points import call
from .htc_runs import place, train_in

__all__ = ["place"]  # a fixture

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
EVIL = "violin <script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> ${1+1} {{value}}"
TABLE = "id,body,labels\n1,violin song,a\n2,atom energy,b\n"


@pytest.fixture(scope="module")
def run(place):
    return train_in(place, "a run")


@pytest.fixture(scope="module")
def model(run):
    return htc.load(run)


def test_the_models_own_rule_stands_first_and_all_others_follow(model):
    ways = ways_of(model)
    assert ways[0].decoder == model.decoder
    assert {way.decoder for way in ways if way.coverage is None} == set(ALL_RULES)
    assert any(way.title == f"tuned threshold {model.model.tuned_threshold:.2f}" for way in ways)
    least = model.model.calibrated().wrong_scores["plain"]
    promised = [way.coverage for way in ways if way.coverage is not None]
    assert promised == [coverage for coverage in (0.8, 0.9, 0.95) if len(least) >= coverage / (1 - coverage) - 1e-9]
    assert ways_of(model, 0.7)[0].coverage == 0.7


def test_a_temperature_excludes_the_tuned_threshold(run):
    tempered = htc.load(run, temperature="global")
    assert "tuned_threshold" not in {way.decoder for way in ways_of(tempered)}


def test_answers_are_those_of_the_rules(model):
    probabilities = torch.from_numpy(model.predict_proba(["violin song"]))
    for answer in answers_of(model, probabilities[0], ways_of(model)):
        if answer.way.decoder is None:
            assert [answer.paths] == model.predict(["violin song"], coverage=answer.way.coverage)
            continue
        expected = decode(answer.way.decoder, probabilities, model.hierarchy, model.model.tuned_threshold)
        assert (answer.labels == model.hierarchy.close(expected)[0]).all()
    assert [answers_of(model, probabilities[0], ways_of(model))[0].paths] == model.predict(["violin song"])


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_a_table_is_labelled_as_by_htc_predict(ending, model, run, tmp_path, monkeypatch, capsys):
    (tmp_path / "a.csv").write_text(TABLE)
    rows, first = label_table(model, tmp_path / "a.csv", tmp_path / f"b{ending}", text_column="body", prefix="p_")
    assert rows == len(first) == 2
    assert [paths for _, paths in first] == model.predict(["violin song", "atom energy"])
    arguments = [f"model={run}/model", f"input={tmp_path / 'a.csv'}", "text_column=body", "prefix=p_"]
    assert call(predict_app, [*arguments, f"output={tmp_path / f'c{ending}'}"], monkeypatch, capsys)[0] == 0
    assert (tmp_path / f"b{ending}").read_bytes() == (tmp_path / f"c{ending}").read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "options", "says"),
    [
        ("a.csv", "body,x\nviolin,1\n", {}, r"^a\.csv:1: .*'text'"),
        ("a.csv", TABLE, {"text_column": "body"}, r"^a\.csv:2: the input has a column 'labels' of its own.*prefix"),
        ("a.csv", "text\n", {}, "^a.csv: the table has columns but no row"),
        ("a.txt", "\n \n", {}, "^there is no text in a.txt"),
        ("a.csv", b"\xff\xfe\xff", {}, r"^a\.csv"),
        ("a.parquet", b"no parquet", {}, r"^a\.parquet"),
        ("a.jsonl", '{"text": 3}\n', {}, r"^a\.jsonl:1"),
        ("a.png", b"\x89PNG", {}, r"^a\.png: cannot tell"),
        ("a.txt", "text,label\nviolin,Arts\n", {}, r"^a\.txt:1: this looks like a table"),
        ("a.csv", "text\na\nb\nc\n", {"max_rows": 2}, "^a.csv has more than 2 rows, .* htc-predict input=a.csv"),
        ("a.csv", "text\na\nb\n", {"max_rows": 2}, None),
    ],
)
def test_what_is_no_table_is_refused_in_a_sentence(name, content, options, says, model, tmp_path):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    if says is None:
        assert label_table(model, file, tmp_path / "b.csv", **options)[0] == 2
        return
    with pytest.raises(InputError, match=says) as refused:
        label_table(model, file, tmp_path / "b.csv", **options)
    assert str(tmp_path) not in str(refused.value)
    assert not (tmp_path / "b.csv").exists()


def test_a_table_is_given_up_when_the_page_ends(model, tmp_path):
    (tmp_path / "a.csv").write_text("text\na\nb\n")
    ending = Event()
    ending.set()
    with pytest.raises(InputError, match="the page has ended"):
        label_table(model, tmp_path / "a.csv", tmp_path / "b.csv", ending=ending)
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["port=65536"], "port must be from 0"),
        (["host=192.0.2.1"], "host=192.0.2.1 is not an address of this machine"),
        (["decoder=nope"], "decoder must be one of"),
        (["coverage=1.5"], "coverage must be between 0 and 1"),
        (["coverage=0.9", "decoder=top_down"], "coverage and decoder are both given"),
        (["temperature=warm"], "temperature must be"),
        (["max_rows=0"], "max_rows must be at least 1"),
        (["max_megabytes=-1"], "max_megabytes must be at least 1"),
        (["batch_size=0"], "batch_size must be at least 1"),
        (['examples=[a," "]'], "examples: text 1 is empty"),
        (["port=x"], "port"),
        (["hots=a"], "did you mean 'host'"),
        (["port=0", "model=no/such/folder"], "no/such/folder"),
    ],
)
def test_bad_input_ends_with_a_sentence(arguments, says, monkeypatch, capsys):
    pytest.importorskip("gradio", reason="of the extra htc[demo]")
    code, out, err = call(demo_app, arguments, monkeypatch, capsys)
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert says in err


def test_a_port_in_use_ends_with_a_sentence(run, monkeypatch, capsys):
    pytest.importorskip("gradio", reason="of the extra htc[demo]")
    with opened("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        code, _, err = call(demo_app, [f"model={run}", f"port={port}"], monkeypatch, capsys)
    assert (code, err) == (2, f"prog: port {port} of 127.0.0.1 is in use; give another one, or port=0 for any that is free.\n")


@contextmanager
def started(run):
    """The command, and the address of its page."""
    command = [sys.executable, "-m", "htc.commands.demo", f"model={run}", "port=0", f"examples=[atom energy,{EVIL!r}]"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("http://127.0.0.1:"), process.stderr.read()
            yield process, line.split()[0]
        finally:
            process.kill()


@contextmanager
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="`make test-all` installs it")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium at hand")
    with sync_api.sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        chromium = playwright.chromium.launch(executable_path=program, args=sandbox)
        yield chromium
        chromium.close()


def page_of(chromium, address, size=DESK, scheme="light"):
    """The page, and what went wrong or was fetched from elsewhere."""
    page, complaints = chromium.new_page(viewport=size, color_scheme=scheme), []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if is_elsewhere(request.url, address) else None)
    page.set_default_timeout(90_000)  # of a machine that does much else
    page.goto(address)
    return page, complaints


def is_elsewhere(url, address):
    return not url.startswith((address, "data:", f"blob:{address}"))


def type_texts(page, model):
    """What is typed is labelled; an answer by another rule, an example, and markup, which is shown as it is."""
    text, lit = page.get_by_label("Text", exact=True), page.locator("p.answer")
    text.fill("violin song")
    ((top, end),) = model.predict(["violin song"])[0]
    lit.filter(has_text=f"{top.label} > {end.label} {end.probability:.1%}").wait_for()
    names = page.locator("ul.labels .chosen > .line .name").all_inner_texts()
    assert [name.split()[0] for name in names] == [top.label, end.label]
    assert page.locator("svg[role=img] .chosen").count() == 2
    assert page.locator("table.rules li").count() == len(ways_of(model))
    page.get_by_label("Answer by").click()
    page.get_by_role("option", name="argmax leaf").click()
    lit.filter(has_text="argmax leaf:").wait_for()
    page.get_by_text("atom energy").click()
    ((top, end),) = model.predict(["atom energy"])[0]
    lit.filter(has_text=f"{top.label} > {end.label}").wait_for()
    text.fill(" ")
    page.get_by_text("Type or paste a text, or take").wait_for()
    text.fill(EVIL)
    lit.wait_for()
    assert page.title() == "htc-demo"


def label_a_table(page, model, folder):
    """A table comes back labelled; what is wrong with it is said in a sentence."""
    (folder / "mine.csv").write_text("id,body\n1,violin song\n2,atom energy\n3," + EVIL.replace('"', "") + "\n")
    page.get_by_role("tab", name="A table").click()
    page.locator("input[type=file]").set_input_files(folder / "mine.csv")
    page.locator(".file-preview").filter(has_text="mine").wait_for()
    button, problem = page.get_by_role("button", name="Label the table"), page.get_by_role("alert")
    button.click()
    problem.filter(has_text="mine.csv:1: there is no column 'text'").wait_for()
    page.get_by_label("Text column").fill("body")
    button.click()
    page.get_by_text("3 rows are labelled").wait_for()
    with page.expect_download() as download:
        page.get_by_text("Download mine_labelled.parquet").click()
    download.value.save_as(folder / "back.parquet")
    back = pd.read_parquet(folder / "back.parquet")
    assert list(back.columns) == ["id", "body", "labels", "probability"]
    expected = model.predict(back["body"].tolist())
    assert [list(each) for each in back["labels"]] == [
        [" > ".join(step.label for step in path) for path in p] for p in expected
    ]
    assert page.title() == "htc-demo"


@pytest.mark.slow
def test_the_page_in_a_browser(run, model, tmp_path):
    pytest.importorskip("gradio", reason="of the extra htc[demo]")
    with browser() as chromium, started(run) as (process, address):
        page, complaints = page_of(chromium, address)
        type_texts(page, model)
        label_a_table(page, model, tmp_path)
        assert complaints == [], "a page brings all it needs"
        for scheme, size in (("light", PHONE), ("dark", PHONE), ("dark", DESK)):
            page, complaints = page_of(chromium, address, size, scheme)
            page.get_by_label("Text", exact=True).fill("violin song")
            page.locator("table.rules").wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], "only the figure scrolls to the side"
            page.screenshot(path=tmp_path / "page.png")
            background = np.median(imread(tmp_path / "page.png")[..., :3])
            assert background > 0.9 if scheme == "light" else background < 0.2
            assert complaints == []
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(40) == 130, said
        assert "interrupted" in said
        assert "Traceback" not in said
