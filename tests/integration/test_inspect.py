"""rlkl-inspect from the command line: on a model of rlkl, and on one of another kind."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from rlkl.commands import inspect as inspect_app
from rlkl.weighting import prioritized
from rlkl_htc_common.terminal import UNSAFE

from ..rlkl.inspection.models import save, write_lines
from .entry_points import call

OURS = ("model=addition-n3", "problems=2", "digits=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("causal") / "model")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    return save(tmp_path_factory.mktemp("causal") / "tuned", scale=2.0)


def lines_of(folder):
    return [json.loads(line) for line in (folder / "inspection.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_model_of_rlkl_on_its_own_task(tmp_path, monkeypatch, capsys):
    output = tmp_path / "out"
    told = (*OURS, "reference=addition-n3", "share=0.05", "verifier=task", "least=3", "continuations=2", f"output={output}")
    code, out, err = call(inspect_app, told, monkeypatch, capsys)
    assert code == 0, err
    for part in ("Input:\n", "the least certain tokens", "worth", "success 1", "weights: certainty of addition-n3", "loading"):
        assert part in out
    rows = lines_of(output)
    assert [row["role"] for row in rows] == ["model", "model"]
    assert all(row["success"] == 1 for row in rows)
    tokens = [token for row in rows for token in row["tokens"]]
    assert sum("worth" in token for token in tokens) == 3
    assert max(token["kl"] for token in tokens) == 0
    below = sum(token["weight"] < 0.5 for token in tokens) / len(tokens)
    assert below == pytest.approx(0.05, abs=0.5 / len(tokens))
    assert "".join(token["token"] for token in rows[0]["tokens"][:-1]) == rows[0]["completion"]
    assert rows[0]["tokens"][-1]["token"] == "<|end|>"
    assert "<title>Where addition-n3 is unsure</title>" in (output / "inspection.html").read_text(encoding="utf-8")


def test_completions_that_are_given(folder, tuned, tmp_path, monkeypatch, capsys):
    file = write_lines(tmp_path / "in.jsonl", {"prompt": "a", "completion": "🦜\x1b"}, {"prompt": "b"})
    told = [
        f"model={folder}",
        f"input={file}",
        f"reference={tuned}",
        f"before={tuned}",
        "beta=2",
        "samples=2",
        "max_new_tokens=5",
    ]
    code, out, err = call(inspect_app, [*told, f"output={tmp_path / 'out'}"], monkeypatch, capsys)
    assert code == 0, err
    assert not UNSAFE.search(out.replace("\n", ""))
    rows = lines_of(tmp_path / "out")
    assert [(row["row"], row["role"]) for row in rows] == [
        *((n, "model") for n in range(3)),
        *((n, "before") for n in range(3)),
    ]
    assert [row["completion"] for row in rows[:3]] == [row["completion"] for row in rows[3:]]
    assert rows[0]["where"] == f"{file}:1"
    assert [token["token"] for token in rows[0]["tokens"]] == ["\\xf0", "\\x9f", "\\xa6", "\\x9c", "\x1b"]
    assert rows[0]["tokens"][0]["part_of"] == "🦜"
    assert rows[1]["tokens"] != rows[2]["tokens"]
    assert all(len(row["tokens"]) <= 5 for row in rows[1:3])
    for token in rows[0]["tokens"]:
        certainty = torch.tensor([token["reference_certainty"]])
        assert token["weight"] == pytest.approx(float(prioritized(certainty, certainty > 0, 2.0)), rel=1e-4)
    assert "kl" not in rows[3]["tokens"][0]
    assert rows[0]["tokens"][0]["entropy"] != rows[3]["tokens"][0]["entropy"]


def test_each_model_may_continue_the_prompts_itself(folder, tuned, tmp_path, monkeypatch, capsys):
    told = (
        f"model={folder}",
        f"before={tuned}",
        "prompt=abc",
        "compare=samples",
        "max_new_tokens=9",
        f"output={tmp_path / 'out'}",
    )
    code, _, err = call(inspect_app, told, monkeypatch, capsys)
    assert code == 0, err
    now, before = lines_of(tmp_path / "out")
    assert now["completion"] != before["completion"]


def test_a_verifier_of_the_user(folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "my_judge.py").write_text("def long(prompt, completion):\n    return len(completion) > 2\n")
    monkeypatch.chdir(tmp_path)
    told = (f"model={folder}", "prompt=abc", "max_new_tokens=6", "verifier=my_judge:long", "least=2", "output=out")
    code, out, err = call(inspect_app, told, monkeypatch, capsys)
    assert code == 0, err
    assert "success" in out
    (row,) = lines_of(tmp_path / "out")
    worths = [token["worth"] for token in row["tokens"] if "worth" in token]
    assert len(worths) == 2
    assert all(0 <= worth["after_token"] <= 1 for worth in worths)


def test_a_run_that_broke_off_leaves_a_folder_that_the_next_one_takes(folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "my_moody.py").write_text("def judge(prompt, completion):\n    raise ValueError('no mood')\n")
    monkeypatch.chdir(tmp_path)
    told = (f"model={folder}", "prompt=abc", "max_new_tokens=3", "output=out")
    code, _, err = call(inspect_app, (*told, "verifier=my_moody:judge"), monkeypatch, capsys)
    assert code == 2
    assert "verifier=my_moody:judge failed on the completion" in err
    assert "ValueError: no mood" in err
    code, _, err = call(inspect_app, told, monkeypatch, capsys)
    assert code == 0, err
    code, _, err = call(inspect_app, told, monkeypatch, capsys)
    assert (code, "exists; choose another output" in err) == (2, True)


def test_the_same_seed_gives_the_same(folder, tmp_path, monkeypatch, capsys):
    for name in ("one", "two"):
        call(inspect_app, (f"model={folder}", "prompt=abc", "samples=3", f"output={tmp_path / name}"), monkeypatch, capsys)
    assert lines_of(tmp_path / "one") == lines_of(tmp_path / "two")


def test_too_few_tokens_for_a_share_are_a_warning(folder, monkeypatch, capsys):
    code, out, err = call(
        inspect_app, (f"model={folder}", f"reference={folder}", "prompt=a", "completion=b"), monkeypatch, capsys
    )
    assert code == 0
    assert "no weights: A share 0.1 of 1 tokens" in err
    assert "KL" in out


def test_nothing_need_be_shown(folder, monkeypatch, capsys):
    code, out, _ = call(inspect_app, (f"model={folder}", "prompt=a", "show=0", "least=0"), monkeypatch, capsys)
    assert code == 0
    assert len(out.splitlines()) == 2


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (["model={folder}"], "input or prompt must be given"),
        (["model={folder}", "prompt=a", "input=b.jsonl"], "input and prompt are both given"),
        (["model={folder}", "completion=a"], "completion is given without prompt"),
        (["model={folder}", "prompt=a", "completion="], "the completion is empty"),
        (["model={folder}", "input=nothing.jsonl"], "nothing.jsonl: cannot read it"),
        (["model={folder}", "prompt=a", "verifier=task"], "verifier=task is for models of rlkl's tasks"),
        (["model={folder}", "prompt=a", "verifier=nothing"], "verifier must be module:function, or task"),
        (["model={folder}", "prompt=a", "chat=true"], "cannot make a chat of it"),
        (["model={folder}", "prompt=a", "reference=addition-n3"], "addition-n3 has another vocabulary than"),
        (["model={folder}", "prompt=a", "before=addition-n3"], "addition-n3 has another vocabulary than"),
        (["model={folder}", "prompt=a", "compare=samples"], "compare=samples is for two models"),
        (["model={folder}", "prompt=a", "max_new_tokens=128"], "has 128 positions; shorten them"),
        (["model={folder}", "prompt=a", "output={folder}"], "exists; choose another output"),
        (["model=nothing/at/all"], "there is no model 'nothing/at/all'"),
        ([*OURS, "prompt=hello"], "has characters that addition-n3 has no tokens for"),
        ([*OURS, "prompt=1+2", "verifier=task"], "prompt: '1+2' is no prompt of additions"),
        ([*OURS, "digits=0"], "digits must be at least 1"),
        ([*OURS, "digits=999"], "additions of 999 digits need"),
        *(([*OURS, f"{name}=0"], f"{name} must be at least 1") for name in ("problems", "samples", "max_new_tokens")),
        *(([*OURS, f"{name}=0"], f"{name} must be at least 1") for name in ("continuations", "batch_size")),
        *(([*OURS, f"{name}=-1"], f"{name} must be at least 0") for name in ("least", "show")),
        ([*OURS, "alternatives=1"], "alternatives must be at least 2"),
        *(([*OURS, f"{name}=none"], f"{name} must be one of") for name in ("certainty", "kl", "dtype", "compare")),
        ([*OURS, "temperature=-1"], "temperature must be a number of at least 0"),
        ([*OURS, "temperature=nan"], "temperature must be a number of at least 0"),
        ([*OURS, "certainty_temperature=0"], "certainty_temperature must be positive"),
        ([*OURS, "beta=-1"], "beta must be a number of at least 0"),
        ([*OURS, "share=0"], "share must be above 0 and below 1"),
        ([*OURS, "share=1"], "share must be above 0 and below 1"),
        ([*OURS, "sample=2"], "did you mean 'samples'?"),
        ([*OURS, "samples=many"], "samples: Value 'many'"),
    ],
)
def test_input_that_cannot_be_used_is_told_in_a_sentence(told, message, folder, monkeypatch, capsys):
    code, _, err = call(inspect_app, [each.format(folder=folder) for each in told], monkeypatch, capsys)
    last = err.strip().splitlines()[-1]
    assert code == 2, err
    assert message in last
    assert "Traceback" not in err


@pytest.mark.slow
def test_an_interruption_is_answered_at_once(tmp_path):
    command = [sys.executable, "-m", "rlkl.commands.inspect", "problems=100", "continuations=100", "verifier=task"]
    running = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ, text=True)
    time.sleep(12)
    running.send_signal(signal.SIGINT)
    started = time.monotonic()
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert time.monotonic() - started < 20
    assert "Traceback" not in err


def test_help_says_what_each_key_means(monkeypatch, capsys):
    code, out, _ = call(inspect_app, ["--help"], monkeypatch, capsys)
    assert code == 0
    assert "verifier" in out
    assert "module:function" in out
