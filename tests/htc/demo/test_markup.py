"""What the page shows, as HTML: names and numbers in their places, and foreign text as text."""

from html.parser import HTMLParser

import pytest
import torch

from htc import Hierarchy
from htc.demo.answers import Answer, Way
from htc.demo.markup import compared, lit_figure, lit_list, note, percent, problem, rows_table, rules_table
from htc.predictor import paths_of

EVIL = "<script>alert(1)</script> & \"quoted\" 'text' <img src=x onerror=alert(1)> ${value} {{value}} \x1b[31m\u202e"
VOID = {"br"}


class Reader(HTMLParser):
    """The tags of some markup, which must all be closed, and its text."""

    def __init__(self, markup):
        super().__init__()
        self.open, self.tags, self.text, self.attributes = [], set(), "", []
        self.feed(markup)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [name for name, _ in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def hierarchy_of(name):
    return Hierarchy.from_paths([["Arts", name], ["Arts", "Film"], ["Science"]])


def answered(hierarchy, probabilities, labels, title="top-down", **way):
    labels = torch.tensor(labels)
    paths = paths_of(labels[None], probabilities[None], hierarchy)[0]
    return Answer(Way(title, **(way or {"decoder": "top_down"})), labels, paths)


@pytest.fixture
def lit():
    hierarchy, probabilities = hierarchy_of("Music"), torch.tensor([0.9, 0.1, 0.00004, 0.85])
    return hierarchy, probabilities, answered(hierarchy, probabilities, [True, False, False, True])


def test_the_list_nests_labels_with_their_probabilities(lit):
    markup = lit_list(*lit)
    text = " ".join(Reader(markup).text.split())
    assert text == "Labels and probabilitiesArts answer 90.0%Film answer 85.0%1 more, below 0.1%Science 10.0%"
    assert markup.count("<ul") == 2
    assert markup.count("<li class=chosen>") == 2


def test_the_figure_says_what_it_shows(lit):
    markup = lit_figure(*lit)
    read = Reader(markup)
    assert {"svg", "title", "desc"} <= read.tags
    assert "top-down: Arts > Film 85.0%" in " ".join(read.text.split())
    assert "Film: 85.0%, in the answer" in read.text
    assert 'role="img" aria-label="The hierarchy by probability"' in markup
    assert markup.count('class="chosen"') == 2


def test_rules_that_agree_stand_together(lit):
    hierarchy, probabilities, own = lit
    others = [
        answered(hierarchy, probabilities, [True, False, False, True], "argmax leaf", decoder="argmax_leaf"),
        answered(hierarchy, probabilities, [True, False, False, False], "tuned threshold 0.87", decoder="tuned_threshold"),
        answered(hierarchy, probabilities, [False] * 4, "coverage 95%", coverage=0.95),
    ]
    markup = rules_table([own, *others])
    text = " ".join(Reader(markup).text.split())
    assert markup.count("<tr>") == 4
    assert "1 of 3 other ways to answer give the labels of top-down." in text
    assert "Arts > Film 85.0%this model's answertop-down top_downargmax leaf argmax_leaf" in text
    assert "Arts 90.0%ends higher uptuned threshold 0.87 tuned_threshold" in text
    assert text.endswith("no labelabstainscoverage 95%")


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([1, 0, 0, 0], "ends higher up"),
        ([0, 0, 0, 0], "abstains"),
        ([1, 0, 1, 1], "more labels"),
        ([1, 0, 1, 0], "other labels"),
        ([0, 1, 0, 0], "other labels"),
    ],
)
def test_another_answer_is_compared_with_the_models_own(labels, says):
    assert compared(torch.tensor(labels, dtype=torch.bool), torch.tensor([True, False, False, True])) == says


@pytest.mark.parametrize(
    ("probability", "says"), [(0.0, "0.0%"), (0.0001, "&lt; 0.1%"), (0.0005, "0.1%"), (0.5, "50.0%"), (1.0, "100.0%")]
)
def test_small_probabilities_are_not_nothing(probability, says):
    assert percent(probability) == f'<span class="percent">{says}</span>'


def test_foreign_text_is_shown_as_text():
    hierarchy = hierarchy_of(EVIL.replace("\x1b", "").replace("\u202e", ""))
    probabilities = torch.tensor([0.9, 0.1, 0.85, 0.0])
    answer = answered(hierarchy, probabilities, [True, False, True, False])
    of_text = hierarchy, probabilities, answer
    paths = paths_of(answer.labels[None], probabilities[None], hierarchy)[0]
    for markup in (
        lit_list(*of_text),
        lit_figure(*of_text),
        rules_table([answer]),
        rows_table([(EVIL, paths)], EVIL),
        problem(EVIL),
        note(EVIL),
    ):
        read = Reader(markup)
        assert not {"script", "img"} & read.tags
        assert "onerror" not in read.attributes
        assert "<script>alert(1)</script>" in read.text
        assert "\x1b" not in markup
        assert "\u202e" not in markup


def test_long_texts_are_cut():
    assert len(Reader(rows_table([("word " * 1000, [])], "Rows")).text) < 300
