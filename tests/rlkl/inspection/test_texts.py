"""Files of prompts, texts as tokens, and verifiers: what is not as it should be is told with its place."""

import json
import re

import pytest

from rlkl.inspection.models import CausalModel
from rlkl.inspection.texts import Text, check_lengths, read_texts, to_passages
from rlkl.inspection.verifiers import problem_in, verifier_named
from rlkl.model.texts import TOKENIZER
from rlkl.tasks import addition, multiplication, subtraction
from rlkl.tasks.operands import Operands
from rlkl_htc_common.errors import InputError

from .models import causal_model, write_lines

CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
MESSAGES = [{"role": "user", "content": "Hi"}]


def test_lines_are_read_with_or_without_completions(tmp_path):
    rows = [
        {"prompt": "a", "completion": "b"},
        "",
        {"prompt": "", "completion": None, "answer": 3},
        {"prompt": MESSAGES, "completion": [{"role": "assistant", "content": "Hello"}]},
    ]
    file = write_lines(tmp_path / "in.jsonl", *rows)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert read_texts(file) == [
        Text(f"{file}:1", "a", "b"),
        Text(f"{file}:3", ""),
        Text(f"{file}:4", MESSAGES, "Hello"),
    ]


def test_each_line_of_a_text_is_a_prompt(tmp_path):
    file = tmp_path / "in.txt"
    file.write_text('one\n\n  two \n{"prompt": 3}', encoding="utf-8")
    assert [text.prompt for text in read_texts(file)] == ["one", "  two ", '{"prompt": 3}']


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no prompt"),
        (b"\n \n", "holds no prompt"),
        (b'{"prompt": "a"}\n{"prompt": \n', "in.jsonl:2 is no JSON"),
        (b"[" * 100_000, "in.jsonl:1 is no JSON"),
        (b'"text"', 'in.jsonl:1: expected an object with "prompt"'),
        (b'[{"prompt": "a"}]', 'in.jsonl:1: expected an object with "prompt"'),
        (b'{"completion": "a"}', 'in.jsonl:1: expected an object with "prompt"'),
        (b'{"prompt": null}', '"prompt" must be a text or messages, not null'),
        (b'{"prompt": 7}', '"prompt" must be a text or messages, not a number'),
        (b'{"prompt": {}}', '"prompt" must be a text or messages, not an object'),
        (b'{"prompt": []}', '"prompt" must be a list of messages'),
        (b'{"prompt": ["a"]}', '"prompt" must be a list of messages'),
        (b'{"prompt": [{"role": "user"}]}', '"prompt" must be a list of messages'),
        (b'{"prompt": "a", "completion": true}', '"completion" must be a text or messages, not true or false'),
        (b'{"prompt": "a", "completion": [{}]}', '"completion" must be a list of messages'),
        (b'{"prompt": "\xff"}', "in.jsonl:1 is not UTF-8 text"),
    ],
)
def test_lines_that_are_not_as_they_should_be_are_told(content, message, tmp_path):
    file = tmp_path / "in.jsonl"
    file.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(message)):
        read_texts(file)


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    for place in (tmp_path, tmp_path / "nothing.jsonl"):
        with pytest.raises(InputError, match="cannot read it"):
            read_texts(place)


def with_chat(model, template=CHAT):
    model.tokenizer.chat_template = template
    return model


def test_prompt_and_completion_are_tokens_each_by_itself():
    model = causal_model()
    (passage,) = to_passages(model, [Text("here", "a", "b")])
    assert passage.prompt_tokens + passage.completion_tokens != model.tokenizer("ab")["input_ids"]
    (empty,) = to_passages(model, [Text("here", "", "b")])
    assert empty.prompt_tokens == [model.tokenizer.bos_token_id]


@pytest.mark.parametrize(("prompt", "chat"), [("Hi", True), (MESSAGES, False)])
def test_a_chat_is_rendered(prompt, chat):
    (passage,) = to_passages(with_chat(causal_model()), [Text("here", prompt, "b")], chat)
    assert passage.prompt == "<user>Hi<assistant>"


@pytest.mark.parametrize(
    ("template", "text", "message"),
    [
        (None, Text("f:1", MESSAGES), "f:1: tiny cannot make a chat of it"),
        ("{{ raise_exception('no') }}", Text("f:1", MESSAGES), "f:1: tiny cannot make a chat of it: no"),
        (None, Text("f:2", "a", ""), "f:2: the completion is empty; leave it out"),
        (None, Text("f:3", "\ud800"), "f:3: '\\ud800' has characters"),
        (None, Text("f:4", "a", "\ud800"), "f:4: '\\ud800' has characters"),
    ],
)
def test_texts_that_are_none_of_the_models_are_told(template, text, message):
    with pytest.raises(InputError, match=re.escape(message)):
        list(to_passages(with_chat(causal_model(), template), [text]))


@pytest.mark.parametrize(
    ("text", "message"),
    [(Text("f:1", "", "1"), "f:1: the prompt is empty, and ours has"), (Text("f:2", "two"), "f:2: 'two' has characters that")],
)
def test_rlkls_models_know_few_characters(model, text, message):
    with pytest.raises(InputError, match=message):
        list(to_passages(CausalModel("ours", model, TOKENIZER, addition), [text]))


def test_a_tokenizer_with_more_tokens_than_the_model_is_told():
    model = causal_model()
    model.tokenizer.add_tokens(["new"])
    with pytest.raises(InputError, match="f:1: the tokenizer gives token 258, and tiny has 258 tokens"):
        list(to_passages(model, [Text("f:1", "new")]))


def test_texts_that_are_too_long_are_told():
    model = causal_model(positions=10)
    given = list(to_passages(model, [Text("f:1", "abc", "defghij"), Text("f:2", "abc")]))
    check_lengths(model, given, [99, 7])
    with pytest.raises(InputError, match="f:2: prompt and completion have 11 tokens, and tiny has 10 positions"):
        check_lengths(model, given, [1, 9])


@pytest.mark.parametrize("task", [addition, subtraction, multiplication])
def test_problems_are_found_in_their_prompts(task):
    operands = task.longest(3)
    assert problem_in(task, task.prompt(operands)) == operands
    verify = verifier_named("task", task)
    assert verify(task.prompt(operands), task.completion(operands)) == 1
    assert verify(task.prompt(operands), "") == 0


@pytest.mark.parametrize(
    "prompt", ["", "1+2", "Input:\n01+2\nTarget:", "Input:\n1+2+3\nTarget:", "Input:\n1-2\nTarget:", "9" * 9999 + "+1", "١+٢"]
)
def test_prompts_that_are_no_problem_are_told(prompt):
    with pytest.raises(InputError, match="is no prompt of additions"):
        problem_in(addition, prompt)
    assert problem_in(addition, addition.prompt(Operands(1, 2))) == (1, 2)


@pytest.fixture
def functions(tmp_path, monkeypatch):
    (tmp_path / "my_checks.py").write_text(
        "import math\n"
        "def right(prompt, completion): return completion == prompt\n"
        "def half(prompt, completion): return 0.5\n"
        "def raises(prompt, completion): raise KeyError('answer')\n"
        "def none(prompt, completion): return None\n"
        "def text(prompt, completion): return '1'\n"
        "def nan(prompt, completion): return math.nan\n"
        "def one(prompt): return 1\n"
        "class Of:\n    @staticmethod\n    def it(prompt, completion): return True\n"
        "number = 3\n"
    )
    (tmp_path / "my_broken.py").write_text("import no_such_module\n")
    (tmp_path / "my_syntax.py").write_text("def\n")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("name", "success"), [("my_checks:right", 1), ("my_checks:half", 0.5), ("my_checks:Of.it", 1)])
def test_functions_of_the_user_are_found(name, success, functions):
    assert verifier_named(name, None)("a", "a") == success


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("task", "verifier=task is for models of rlkl's tasks"),
        ("right", "verifier must be module:function, or task, not 'right'"),
        (":right", "verifier must be module:function"),
        ("my_checks:", "verifier must be module:function"),
        ("my_checks.py:right:x", "verifier must be module:function"),
        ("../my_checks:right", "verifier must be module:function"),
        ("my_nothing:right", "cannot import my_nothing: ModuleNotFoundError"),
        ("my_broken:right", "cannot import my_broken: ModuleNotFoundError: No module named 'no_such_module'"),
        ("my_syntax:right", "cannot import my_syntax: SyntaxError"),
        ("my_checks:wrong", "my_checks has no wrong"),
        ("my_checks:number", "verifier=my_checks:number is no function, but int"),
    ],
)
def test_verifiers_that_are_none_are_told(name, message, functions):
    with pytest.raises(InputError, match=re.escape(message)):
        verifier_named(name, None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raises", "failed on the completion 'text': KeyError: 'answer'"),
        ("one", "failed on the completion 'text': TypeError"),
        ("none", "must give true, false or a number, not None, for 'text'"),
        ("text", "must give true, false or a number, not '1', for 'text'"),
        ("nan", "must give true, false or a number, not nan, for 'text'"),
    ],
)
def test_answers_that_are_none_are_told(name, message, functions):
    verify = verifier_named(f"my_checks:{name}", None)
    with pytest.raises(InputError, match=re.escape(f"verifier=my_checks:{name} {message}")):
        verify("prompt", "text")


def test_a_json_file_of_trl_is_read_as_it_is(tmp_path):
    row = {"prompt": MESSAGES, "completion": "x", "reward": [1, {"deep": None}]}
    assert read_texts(write_lines(tmp_path / "in.json", json.dumps(row)))[0].completion == "x"
