"""The page itself, of gradio's components. Nothing is loaded from, or sent to, another machine."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from htc.demo.answers import answers_of, ways_of
from htc.demo.markup import lit_figure, lit_list, note, problem, rows_table, rules_table, shown
from htc.labels.hierarchy import Hierarchy
from htc.predictor import LabelPath, Predictor
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.extras import require

require("htc[demo]", "gradio")
os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1")  # read when gradio is imported
import gradio  # noqa: E402

EXAMPLES = 4
FORMATS = {"Parquet": ".parquet", "CSV": ".csv", "JSON lines": ".jsonl"}
FONTS = ("system-ui", "sans-serif")
MONOSPACE = ("ui-monospace", "monospace")
NO_TEXT = "Type or paste a text, or take one of the examples."
COMES_BACK = "It comes back with all its columns, and behind them labels and probabilities."
STYLE = Path(__file__).with_name("page.css")
KEPT = 3600  # seconds that uploaded and labelled tables stay


class Labelled(NamedTuple):
    """A labelled table. Attributes: file: of it; rows: how many; first: some texts with their labels."""

    file: Path
    rows: int
    first: list[tuple[str, list[LabelPath]]]


class Limits(NamedTuple):
    """Of a table on the page."""

    rows: int
    megabytes: int


LabelTable = Callable[[Path, str | None, str, str], Labelled]
"""From a file, its text column (None for the model's), the ending of the result, and the prefix of its new columns."""


def examples_of(hierarchy: Hierarchy) -> list[str]:
    """Texts to try where none are given: names of leaves, from the whole breadth of the hierarchy."""
    leaves = hierarchy.leaves.tolist()
    places = range(0, len(leaves), max(1, len(leaves) // EXAMPLES))
    return list(dict.fromkeys(hierarchy.names[leaves[place]] for place in places))[:EXAMPLES]


def application(blocks: Any, limits: Limits) -> Any:
    """The ASGI application of the page."""
    from fastapi import FastAPI

    return gradio.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=f"{limits.megabytes}mb",
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=gradio.themes.Base(font=FONTS, font_mono=MONOSPACE),
        css_paths=[STYLE],
    )


def page(
    model: Predictor, label_table: LabelTable, limits: Limits, examples: Sequence[str], coverage: float | None = None
) -> Any:
    """The page as gradio's Blocks. Args: coverage: see `ways_of`."""
    with gradio.Blocks(title="htc-demo", analytics_enabled=False, delete_cache=(KEPT, KEPT), fill_width=False) as blocks:
        gradio.HTML(_heading(model))
        with gradio.Tab("A text"):
            _text_part(model, examples, coverage)
        with gradio.Tab("A table"):
            _table_part(model, label_table, limits)
    return blocks


def _heading(model: Predictor) -> str:
    hierarchy = model.hierarchy
    name = shown(str(model.model.dataset.get("name", "a model")))
    size = f"{hierarchy.num_nodes:,} labels on {hierarchy.max_depth} levels. Texts stay on the machine of this page."
    return f'<div class="htc"><h1>Label texts: {name}</h1><p class="soft">{size}</p></div>'


def _text_part(model: Predictor, examples: Sequence[str], coverage: float | None) -> None:
    ways = ways_of(model, coverage)
    choices = [(way.title + (" (this model's)" if way is ways[0] else ""), way.key) for way in ways]

    def answer(text: str, key: str) -> tuple[str, str, str]:
        given = (text or "").encode("utf-8", "replace").decode()  # half characters are none
        if not given.strip():
            return note(NO_TEXT), "", ""
        try:
            probabilities = torch.from_numpy(model.predict_proba([given]))[0]
            answers = answers_of(model, probabilities, ways)
        except InputError as error:
            return problem(str(error)), "", ""
        picked = next(each for each in answers if each.way.key == key)
        of_text = model.hierarchy, probabilities, picked
        return lit_figure(*of_text), lit_list(*of_text), rules_table(answers)

    with gradio.Row():
        text = gradio.Textbox(label="Text", lines=4, max_lines=16, placeholder="Type or paste a text", scale=3, min_width=280)
        with gradio.Column(scale=1, min_width=280):
            way = gradio.Dropdown(choices, value=ways[0].key, label="Answer by")
            button = gradio.Button("Label the text", variant="primary")
    if examples:
        gradio.Examples([[each] for each in examples], [text], label="Examples", cache_examples=False)
    figure = gradio.HTML(note(NO_TEXT))
    with gradio.Row():
        with gradio.Column(min_width=280):
            listed = gradio.HTML()
        with gradio.Column(min_width=280):
            rules = gradio.HTML()
    gradio.on(
        [text.change, way.change, button.click],
        answer,
        [text, way],
        [figure, listed, rules],
        show_progress="hidden",
        trigger_mode="always_last",
        concurrency_id="model",
        api_visibility="private",
    )


def _table_part(model: Predictor, label_table: LabelTable, limits: Limits) -> None:
    column_of_model = str(model.model.dataset.get("text", "text"))

    def label(file: str | None, column: str, form: str, prefix: str) -> tuple[str, Any]:
        if file is None:
            return problem("there is no table yet; upload one first."), gradio.DownloadButton(visible=False)
        try:
            done = label_table(Path(file), column.strip() or None, FORMATS[form], prefix)
        except InputError as error:
            return problem(str(error)), gradio.DownloadButton(visible=False)
        caption = f"{done.rows:,} rows are labelled; the first of them:"
        name = f"Download {done.file.name}"
        return rows_table(done.first, caption), gradio.DownloadButton(name, value=str(done.file), visible=True)

    formats = "CSV, TSV, JSON lines or Parquet, or a text file with one text a line"
    gradio.HTML(note(f"A table in {formats}: up to {limits.rows:,} rows and {limits.megabytes} MB. {COMES_BACK}"))
    with gradio.Row():
        with gradio.Column(scale=2, min_width=280):
            file = gradio.File(label="Table", type="filepath", height=140)
            column = gradio.Textbox(label="Text column (text_column)", placeholder=column_of_model)
            form = gradio.Radio(list(FORMATS), value="Parquet", label="Give it back as")
            prefix = gradio.Textbox(label="In front of the names of new columns (prefix)", placeholder="nothing")
            button = gradio.Button("Label the table", variant="primary")
        with gradio.Column(scale=3, min_width=280):
            result = gradio.HTML()
            download = gradio.DownloadButton(visible=False)
    button.click(
        label,
        [file, column, form, prefix],
        [result, download],
        trigger_mode="always_last",
        concurrency_id="model",
        api_visibility="private",
    )
