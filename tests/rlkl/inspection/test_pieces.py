"""Tokens as text: half characters, blanks, bytes of SentencePiece, special tokens."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rlkl.inspection.pieces import pieces, shown, text_of, token_bytes
from rlkl.model.texts import TOKENIZER

from .models import END, byte_tokenizer

PARROT = "\\xf0", "\\x9f", "\\xa6", "\\x9c"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ab c", ["ab", " ", "c"]),
        ("é", ["\\xc3", "\\xa9"]),
        ("a🦜b", ["a", *PARROT, "b"]),
        ("🦜🦜", [*PARROT, *PARROT]),
        ("\n\t\x1b\u202e", ["\n", "\t", "\x1b", "\\xe2", "\\x80", "\\xae"]),
        (f"a{END}", ["a", END]),
    ],
)
def test_bytes_of_a_character_are_shown_as_bytes(text, expected):
    tokenizer = byte_tokenizer()
    tokens = tokenizer(text)["input_ids"]
    found = pieces(tokenizer, tokens)
    assert [piece.text for piece in found] == expected
    assert b"".join(token_bytes(tokenizer, token) for token in tokens).decode() == text
    for piece in found:
        assert bool(piece.part_of) == piece.text.startswith("\\x")
        assert not piece.part_of or piece.part_of in text


def test_bytes_that_make_no_character_are_part_of_none():
    tokenizer = byte_tokenizer()
    first, *_ = tokenizer("🦜")["input_ids"]
    assert pieces(tokenizer, [first, 257, first]) == [("\\xf0", ""), ("ab", ""), ("\\xf0", "")]
    assert shown(tokenizer, first) == "\\xf0"
    assert pieces(tokenizer, []) == []


def test_a_token_may_end_one_character_and_begin_another():
    made = byte_tokenizer()
    spelled = {byte: made.convert_ids_to_tokens(made("é")["input_ids"][place]) for place, byte in enumerate((0xC3, 0xA9))}
    vocabulary = {spelled[0xC3]: 0, spelled[0xA9] + spelled[0xC3]: 1, spelled[0xA9]: 2}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[(spelled[0xA9], spelled[0xC3])]))
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    assert pieces(fast, [0, 1, 2]) == [("\\xc3", "é"), ("\\xa9\\xc3", "é"), ("\\xa9", "é")]


@pytest.mark.parametrize("byte_fallback", [True, False])
def test_the_spelling_of_sentencepiece(byte_fallback):
    vocabulary = {"<unk>": 0, "▁a": 1, "b": 2, "<0xF0>": 3, "<0x9F>": 4, "<0xA6>": 5, "<0x9C>": 6}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[], unk_token="<unk>", byte_fallback=byte_fallback))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps) if byte_fallback else decoders.Metaspace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    assert [piece.text for piece in pieces(fast, [1, 2, 3, 4, 5, 6])] == [" a", "b", *PARROT]
    assert {piece.part_of for piece in pieces(fast, [3, 4, 5, 6])} == {"🦜"}


def test_characters_of_rlkl_are_as_they_are():
    tokens = TOKENIZER("Input:\n12+3")["input_ids"]
    assert "".join(piece.text for piece in pieces(TOKENIZER, tokens)) == text_of(TOKENIZER, tokens) == "Input:\n12+3"


def test_tokens_without_a_name_are_shown_by_their_number():
    assert shown(byte_tokenizer(), 100_000) == "<unused 100000>"


def test_a_vocabulary_of_words_is_not_taken_for_bytes():
    tokenizer = Tokenizer(models.WordLevel({"Ġnaïve": 0, "é": 1}))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    assert [piece.text for piece in pieces(PreTrainedTokenizerFast(tokenizer_object=tokenizer), [0, 1])] == ["Ġnaïve", "é"]
