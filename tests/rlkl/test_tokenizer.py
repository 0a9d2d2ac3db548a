import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlkl.addition import Operands, completion, prompt
from rlkl.language_model import save_model
from rlkl.tokenizer import CHARACTERS, END, character_tokenizer

TOKENIZER = character_tokenizer()


def test_one_token_per_character_and_one_more():
    assert len(TOKENIZER) == 41
    assert TOKENIZER.eos_token == TOKENIZER.pad_token == END
    assert len(set(CHARACTERS)) == len(CHARACTERS) == 40


def test_the_task_uses_every_character_and_no_other():
    pairs = [Operands(first, second) for first in range(0, 1000, 37) for second in (0, 5, 99, 123)]
    assert set("".join(prompt(pair) + completion(pair) for pair in pairs)) == set(CHARACTERS)


@given(st.text(CHARACTERS, min_size=1))
def test_texts_come_back_as_they_were(text):
    ids = TOKENIZER(text)["input_ids"]
    assert len(ids) == len(text)
    assert TOKENIZER.decode(ids) == text


def test_other_characters_are_refused():
    with pytest.raises(Exception, match="UNK"):
        TOKENIZER("a letter of another task: z")


def test_a_folder_loads_with_the_auto_classes(tmp_path, model):
    save_model(tmp_path, model)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    text = prompt(Operands(12, 345)) + completion(Operands(12, 345))
    assert tokenizer(text)["input_ids"] == TOKENIZER(text)["input_ids"]
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.config.trained_digits == 2
    assert all((a == b).all() for a, b in zip(loaded.parameters(), model.parameters(), strict=True))
