"""Prompts and completions: from files, and as tokens."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from rlkl.inspection.models import CausalModel
from rlkl_htc_common.errors import InputError

JSON_LINES = (".jsonl", ".ndjson", ".json")
Prompt = str | list[dict[str, Any]]


@dataclass(frozen=True)
class Text:
    """A prompt and what follows it.

    Attributes:
        where: it comes from, for messages.
        prompt: a text, or messages with `role` and `content`, as TRL's conversational data sets have them.
        completion: None where one is to be sampled.
    """

    where: str
    prompt: Prompt
    completion: str | None = None


@dataclass(frozen=True)
class Passage:
    """A prompt and a completion as tokens.

    Attributes:
        where: it comes from.
        prompt: as the model reads it, a chat template applied.
        prompt_tokens: at least one.
        completion_tokens: none yet where they are to be sampled.
    """

    where: str
    prompt: str
    prompt_tokens: list[int]
    completion_tokens: list[int]


def read_texts(file: Path) -> list[Text]:
    """The prompts of a file, some with their completions.

    Args:
        file: JSON lines (.jsonl, .ndjson, .json) with `prompt` and, where it is given, `completion`; other keys are ignored.
            Each is a text or messages. Of any other file, each line that is not blank is a prompt.

    Raises:
        InputError: it cannot be read, or a line is not as it should be.
    """
    try:
        lines = file.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise InputError(f"{file}: cannot read it: {error.strerror}.") from error
    texts = []
    for number, line in enumerate(lines, start=1):
        where = f"{file}:{number}"
        try:
            content = line.decode("utf-8").rstrip("\r")
        except UnicodeDecodeError as error:
            raise InputError(f"{where} is not UTF-8 text.") from error
        if content.strip():
            texts.append(_json_text(where, content) if file.suffix.lower() in JSON_LINES else Text(where, content))
    if not texts:
        raise InputError(f"{file} holds no prompt.")
    return texts


def _json_text(where: str, line: str) -> Text:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f'{where} is no JSON ({str(error)[:80]}); expected a line such as {{"prompt": "2 + 2 ="}}.') from error
    if not isinstance(row, dict) or "prompt" not in row:
        raise InputError(f'{where}: expected an object with "prompt" and perhaps "completion".')
    prompt, completion = row["prompt"], row.get("completion")
    if isinstance(completion, list):  # the messages of an assistant
        _check_messages(f'{where}: "completion"', completion)
        completion = "".join(message["content"] for message in completion)
    if completion is not None and not isinstance(completion, str):
        raise InputError(f'{where}: "completion" must be a text or messages, not {_kind(completion)}.')
    if isinstance(prompt, list):
        _check_messages(f'{where}: "prompt"', prompt)
    elif not isinstance(prompt, str):
        raise InputError(f'{where}: "prompt" must be a text or messages, not {_kind(prompt)}.')
    return Text(where, prompt, completion)


def _check_messages(what: str, messages: list[Any]) -> None:
    texts = [message.get(key) if isinstance(message, dict) else None for message in messages for key in ("role", "content")]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise InputError(f'{what} must be a list of messages, each with a "role" and a "content" that are texts.')


def _kind(value: object) -> str:
    return {dict: "an object", list: "a list", bool: "true or false", int: "a number", float: "a number", type(None): "null"}[
        type(value)
    ]


def to_passages(model: CausalModel, texts: Sequence[Text], chat: bool = False) -> Iterator[Passage]:
    """Texts as the tokens of a model. Prompt and completion are split into tokens each by itself, as in reinforcement learning.

    Args:
        chat: take prompts that are texts for what a user says in the model's chat template, too.

    Raises:
        InputError: a text is empty, or not one of the model's vocabulary or chat template.
    """
    for text in texts:
        is_chat = chat or isinstance(text.prompt, list)
        prompt = _rendered(model, text) if is_chat else str(text.prompt)
        tokens = _tokens(model, text.where, prompt, special=not is_chat)
        if not tokens:
            start = model.tokenizer.bos_token_id
            if start is None:
                raise InputError(f"{text.where}: the prompt is empty, and {model.name} has no token to begin with; give one.")
            tokens = [start]
        completion = [] if text.completion is None else _tokens(model, text.where, text.completion, special=False)
        if text.completion is not None and not completion:
            raise InputError(f"{text.where}: the completion is empty; leave it out to have one sampled.")
        yield Passage(text.where, prompt, tokens, completion)


def _rendered(model: CausalModel, text: Text) -> str:
    messages = [{"role": "user", "content": text.prompt}] if isinstance(text.prompt, str) else text.prompt
    try:
        return str(model.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except (ValueError, TypeError, LookupError, AttributeError, TemplateError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{text.where}: {model.name} cannot make a chat of it: {reason}") from error


def _tokens(model: CausalModel, where: str, text: str, special: bool) -> list[int]:
    try:
        tokens = model.tokenizer(text, add_special_tokens=special)["input_ids"]
    except Exception as error:  # the tokenizers library raises nothing more special
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{where}: {text[:60]!r} has characters that {model.name} has no tokens for ({reason}).") from error
    if max(tokens, default=0) >= model.vocabulary:
        raise InputError(f"{where}: the tokenizer gives token {max(tokens)}, and {model.name} has {model.vocabulary} tokens.")
    return [int(token) for token in tokens]


def check_lengths(model: CausalModel, passages: Sequence[Passage], new_tokens: Sequence[int]) -> None:
    """Refuse passages that a model has no positions for. Args: new_tokens: for each what may be sampled, if it has none."""
    for passage, most in zip(passages, new_tokens, strict=True):
        needed = len(passage.prompt_tokens) + (len(passage.completion_tokens) or most)
        if model.positions is not None and needed > model.positions:
            raise InputError(
                f"{passage.where}: prompt and completion have {needed} tokens, and {model.name} has {model.positions} "
                "positions; shorten them, or lower max_new_tokens."
            )
