import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlkl.model.language_model import save_model
from rlkl.model.texts import TOKENIZER as ALL
from rlkl.model.texts import encode
from rlkl.tasks import multiplication
from rlkl.tasks.addition import Operands, completion, prompt
from rlkl.tasks.registry import TASKS
from rlkl.tasks.tokenizer import CHARACTERS, END, character_tokenizer

TOKENIZER = character_tokenizer()


def test_one_token_per_character_and_one_more():
    assert len(TOKENIZER) == 41
    assert TOKENIZER.eos_token == TOKENIZER.pad_token == END
    assert len(set(CHARACTERS)) == len(CHARACTERS) == 40


def test_ids_are_those_that_the_embedded_model_was_trained_with():
    known = {END: 0, "\n": 1, " ": 2, "+": 3, "-": 5, "0": 7, "9": 16, "C": 22, "]": 29, "u": 40}
    for task in TASKS.values():
        ids = character_tokenizer(task.CHARACTERS).get_vocab()
        assert {character: ids[character] for character in known} == known
        assert ids.items() <= ALL.get_vocab().items()
    assert character_tokenizer(multiplication.CHARACTERS).get_vocab()["*"] == 41
    assert len(ALL) == 1 + max(len(task.CHARACTERS) for task in TASKS.values())


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_texts_of_every_task_have_the_ids_of_its_own_tokenizer(task):
    text = task.prompt(Operands(98, 7)) + task.completion(Operands(98, 7))
    own = character_tokenizer(task.CHARACTERS)
    assert own(text)["input_ids"] == encode([text])[0]
    assert own.decode(encode([text])[0]) == text


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
        TOKENIZER("12*7")


def test_a_folder_loads_with_the_auto_classes(tmp_path, model):
    save_model(tmp_path, model)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    text = prompt(Operands(12, 345)) + completion(Operands(12, 345))
    assert tokenizer(text)["input_ids"] == TOKENIZER(text)["input_ids"]
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.config.trained_digits == 2
    assert all((a == b).all() for a, b in zip(loaded.parameters(), model.parameters(), strict=True))
