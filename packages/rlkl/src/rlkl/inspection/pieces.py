r"""Tokens as people can read them, also those that are a part of a character.

The vocabularies of GPT-2, Llama 3, Qwen or SmolLM2 are made of bytes: an emoji may be four tokens, none of which is text by
itself. Such a token is shown by its bytes, \xf0\x9f, beside what is complete in it.
"""

import functools
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")  # how SentencePiece spells a byte that has no token


class Piece(NamedTuple):
    r"""A token.

    Attributes:
        text: what it adds to the text; bytes that are no whole character as \xf0\x9f.
        part_of: the characters that it is a part of, where it holds such bytes and the text has the others.
    """

    text: str
    part_of: str = ""


def pieces(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> list[Piece]:
    """Tokens that follow each other."""
    parts = [token_bytes(tokenizer, token) for token in tokens]
    whole = b"".join(parts)
    ends = _ends_of_characters(whole)  # where each byte's character ends
    begins = _begins_of_characters(ends)
    found, start = [], 0
    for part in parts:
        end = start + len(part)
        split = [
            (begins[place], ends[place])
            for place in dict.fromkeys((start, end - 1))
            if part and ends[place] and (begins[place] < start or ends[place] > end)
        ]
        found.append(Piece(shown_bytes(part), "".join(dict.fromkeys(whole[a:b].decode() for a, b in split))))
        start = end
    return found


def shown(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """A token by itself, such as an alternative."""
    return shown_bytes(token_bytes(tokenizer, token))


def shown_bytes(part: bytes) -> str:
    r"""Bytes as text; those that are no character as \xf0\x9f."""
    return part.decode("utf-8", "backslashreplace")


def _ends_of_characters(whole: bytes) -> list[int]:
    """For each byte where the character that it belongs to ends; 0 for one that belongs to none."""
    ends: list[int] = []
    for character in whole.decode("utf-8", "surrogateescape"):
        size = len(character.encode("utf-8", "surrogateescape"))
        ends += [0 if "\udc80" <= character <= "\udcff" else len(ends) + size] * size
    return ends


def _begins_of_characters(ends: Sequence[int]) -> list[int]:
    begins: list[int] = []
    for place, end in enumerate(ends):
        begins.append(begins[-1] if place and end and ends[place - 1] == end else place)
    return begins


def token_bytes(tokenizer: PreTrainedTokenizerBase, token: int) -> bytes:
    """The bytes that a token stands for."""
    if (found := tokenizer.convert_ids_to_tokens(token)) is None:
        return f"<unused {token}>".encode()
    spelled = str(found)
    if token in tokenizer.added_tokens_decoder:
        return spelled.encode("utf-8", "surrogatepass")
    kinds = _decoder_kinds(tokenizer)
    if "ByteLevel" in kinds and all(character in _bytes_of_characters() for character in spelled):
        return bytes(_bytes_of_characters()[character] for character in spelled)
    if byte := BYTE.fullmatch(spelled):
        return bytes([int(byte[1], 16)])
    if "Metaspace" in kinds or "Replace" in kinds:
        spelled = spelled.replace("▁", " ")
    elif not kinds:  # a tokenizer in Python, which keeps to itself how it spells
        spelled = str(tokenizer.decode([token]))
    return spelled.encode("utf-8", "surrogatepass")


@functools.lru_cache(maxsize=16)
def _decoder_kinds(tokenizer: PreTrainedTokenizerBase) -> frozenset[str]:
    """The names of the steps by which a fast tokenizer makes text of tokens; nothing for others."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return frozenset()
    decoder = backend.decoder
    state = b"" if decoder is None else decoder.__getstate__()
    return frozenset({"tokens", *re.findall(r'"type":\s*"(\w+)"', state.decode())})


@functools.cache
def _bytes_of_characters() -> dict[str, int]:
    """How byte-level vocabularies spell bytes (GPT-2): printable ones as they are, the others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + number): byte for number, byte in enumerate(others)}


def text_of(tokenizer: PreTrainedTokenizerBase, tokens: Iterable[int]) -> str:
    """The text of tokens, without special ones."""
    return str(tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))
