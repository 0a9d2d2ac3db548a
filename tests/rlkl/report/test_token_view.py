"""The page and the terminal view of tokens: what they hold, and that texts stay texts."""

import json
import re
from html.parser import HTMLParser

import pytest

from rlkl.report import token_view
from rlkl.report.token_view import finding, ranking_table, to_terminal, unsure_below, write_token_page
from rlkl_htc_common.terminal import UNSAFE, printable

from .token_rows import WITH_REFERENCE, WORTH, row, token

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>&quot;'\"\x1b[31m\u202e\ud800"


class Page(HTMLParser):
    """The elements of a page with their attributes, and the text of each."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.open = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if self.open:
            self.texts[self.open[-1]] = self.texts.get(self.open[-1], "") + data

    def of_class(self, name):
        return [attrs for _, attrs in self.elements if name in (attrs.get("class") or "").split()]


def written(tmp_path, rows, ranking=((0, 5),), **more):
    file = tmp_path / "page.html"
    write_token_page(
        file, more.get("title", "Title"), more.get("lead", "Lead."), rows, ranking, more.get("facts", [("a", "b")])
    )
    return file.read_text(encoding="utf-8")


def data_of(text):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_every_token_is_there_with_its_numbers(tmp_path):
    rows = [row(0), row(1, tokens=[token(" the\n", **WITH_REFERENCE, worth=WORTH, part_of="é")])]
    text = written(tmp_path, rows)
    page = Page(text)
    tokens = page.of_class("t")
    assert [each["id"] for each in tokens] == [f"model-0-{place}" for place in range(40)] + ["model-1-0"]
    assert [each["tabindex"] for each in tokens] == ["0", *["-1"] * 39, "0"], "one stop of the tab key for each completion"
    assert "--certainty:0.10;" in tokens[0]["style"]
    last = data_of(text)[-1]
    assert last["text"] == "␣the↵"
    assert dict(last["details"]) == {
        "certainty": "0.900",
        "entropy (nats)": "0.500",
        "probability": "0.500",
        "rank": "2",
        "KL (nats)": "0.250",
        "reference's certainty": "0.800",
        "weight": "0.400",
        "a part of": "é",
        "success": "0.750 after it, 0.250 after ␣the",
    }
    assert last["others"] == [["␣the", "0.250"], ["␣the↵", "0.500"]]
    assert len(data_of(text)) == len(tokens)


def test_unsure_tokens_are_buttons_that_say_so(tmp_path):
    page = Page(written(tmp_path, [row()]))
    unsure = page.of_class("u")
    named = {each["id"]: each for each in unsure if "id" in each}
    assert set(named) == {"model-0-5", "model-0-25"}, "not the many that are as certain as the next one"
    assert named["model-0-5"]["role"] == "button"
    assert named["model-0-5"]["aria-label"] == "␣w5, unsure: certainty 0.300"
    assert unsure_below([row()]) == 0.99
    assert unsure_below([row(tokens=[token("a", 1.0)] * 9)]) == 0.999, "a model that is certain throughout is unsure nowhere"
    assert unsure_below([row(tokens=[token("a", 0.5)])]) == unsure_below([]) == 0.999


def test_the_ranking_is_a_table_that_leads_to_the_tokens(tmp_path):
    rows = [row(tokens=[token("a"), token("b", **WITH_REFERENCE, worth=WORTH)])]
    page = Page(written(tmp_path, rows, [(0, 1), (0, 0)]))
    assert [attrs["href"] for tag, attrs in page.elements if tag == "a"] == ["#model-0-1", "#model-0-0"]
    assert "+0.5 (0.750 against 0.250 after ␣the)" in page.texts["td"]
    assert {tag for tag, _ in page.elements} >= {"html", "main", "table", "caption", "th", "fieldset", "legend", "article"}
    assert ("html", {"lang": "en"}) in page.elements


def test_two_models_stand_side_by_side(tmp_path):
    text = written(tmp_path, [row(), row(1), row(0, "before"), row(1, "before")])
    page = Page(text)
    labels = [attrs["aria-label"] for tag, attrs in page.elements if tag == "article"]
    assert labels == [f"Completion {number} of {model}" for number in (1, 2) for model in ("tiny", "older")]
    ids = [attrs["id"] for attrs in page.of_class("t")]
    assert len(set(ids)) == len(ids) == 160


def test_colours_are_those_that_were_measured(tmp_path):
    def choices(text):
        return [attrs["value"] for tag, attrs in Page(text).elements if tag == "input"]

    assert choices(written(tmp_path, [row()])) == ["certainty", "surprise"]
    with_reference = row(tokens=[token("a", **WITH_REFERENCE)])
    assert choices(written(tmp_path, [with_reference], [])) == ["certainty", "surprise", "weight", "kl"]
    assert choices(written(tmp_path, [], [])) == []


def test_a_page_holds_so_many_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(token_view, "MOST_ROWS", 2)
    text = written(tmp_path, [row(number) for number in range(5)], [(0, 5), (4, 5)])
    assert "3 more completions are in the JSON lines" in text
    assert len(Page(text).of_class("t")) == 80
    assert 'href="#model-4-5"' not in text


def test_numbers_that_are_not_finite_are_said_to_be_so(tmp_path):
    nothing = {"certainty": None, "entropy": None, "probability": 0.0, "kl": None, "reference_certainty": 1.0, "weight": None}
    text = written(tmp_path, [row(tokens=[token("a") | nothing])], [(0, 0)])
    assert dict(data_of(text)[0]["details"])["KL (nats)"] == "not finite"
    assert to_terminal(row(tokens=[token("a") | nothing]))


def test_nothing_is_loaded_and_no_text_becomes_markup(tmp_path):
    evil = token(EVIL, 0.1, part_of=EVIL, worth=WORTH | {"alternative": EVIL}, **WITH_REFERENCE)
    evil["alternatives"] = [{"token": EVIL, "id": 1, "probability": 0.5}]
    rows = [row(tokens=[evil], prompt=EVIL, where=EVIL, model=EVIL, completion=EVIL)]
    text = written(tmp_path, rows, [(0, 0)], title=EVIL, lead=EVIL, facts=[(EVIL, EVIL)])
    page = Page(text)
    assert [attrs for tag, attrs in page.elements if tag == "script"] == [{"type": "application/json", "id": "data"}, {}]
    assert not [tag for tag, _ in page.elements if tag in ("img", "link", "iframe", "object")]
    assert not {name for _, attrs in page.elements for name in attrs if name.startswith("on") or name == "src"}
    assert "://" not in text
    assert "default-src 'none'" in text
    assert not UNSAFE.sub(lambda match: "" if match[0] in "\n\t" else "X", text).count("X\x1b")
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert printable(EVIL) in data_of(text)[0]["text"].replace("␣", " ")


@pytest.mark.parametrize("color", [True, False])
def test_a_terminal_has_no_escapes_but_our_own(color):
    shown = to_terminal(row(tokens=[token(EVIL, 0.2), token("\n", 0.2), token("b", 1.0)], prompt=EVIL), color)
    ours = re.compile(r"\x1b\[(48;2;\d+;\d+;\d+;30|2|0)m")
    assert len(ours.findall(shown)) == (6 if color else 0)
    plain = ours.sub("", shown)
    assert plain == printable(EVIL * 2) + ("↵\nb" if color else "\nb")


def test_the_ranking_in_a_terminal_is_a_line_a_token():
    rows = [row(tokens=[token(EVIL, **WITH_REFERENCE, worth=WORTH), token("b", **WITH_REFERENCE)])]
    lines = ranking_table(rows, [(0, 0), (0, 1)]).splitlines()
    assert len(lines) == 3
    assert "KL" in lines[0]
    assert "worth +0.5" in lines[1]
    assert not UNSAFE.search("".join(lines))
    assert "KL" not in ranking_table([row()], [(0, 5)])


def test_the_finding_is_said_first():
    rows = [{"row": 3, "tokens": [{"token": " a", "certainty": number / 10} for number in range(11)]}]
    rows[0]["tokens"].append({"token": "x", "certainty": None})  # not finite
    half = "Half of the 11 tokens have a certainty of 0.500 or more, a tenth of 0.100 or less"
    assert finding(rows, [(3, 0)]) == f"{half}; the lowest is 0.000, of ␣a in completion 4. "
    assert finding(rows, []) == f"{half}. "
    assert finding([{"row": 0, "tokens": []}], []) == finding([], []) == ""
