"""Sphinx: `make docs` builds these pages into outputs/docs. Nothing here or there needs the network."""

import json

from docutils.nodes import SkipNode
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from myst_parser.parsers.sphinx_ import MystParser

project = "rlkl and htc"
html_title = project
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_copybutton"]
source_suffix = {".md": "markdown", ".ipynb": "notebook"}
myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3
html_theme = "furo"
html_show_copyright = False
html_math_renderer = "mathml"  # browsers draw it themselves; MathJax would be loaded from the network
html_static_path = ["_static"]
html_css_files = ["pages.css"]
copybutton_prompt_text = "$ "  # of a block with prompts, the lines behind them are copied
copybutton_selector = "div:not(.highlight-text) > div.highlight pre"  # what a command prints is not copied
default_role = "code"  # docstrings have names in single backticks
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_ivar = True
# Other projects' types, and our own by their bare names: no page here describes them.
ALIASES = (
    r"htc\.(metrics\.ranking\.Curve|labels\.hierarchy\.Sets|labels\.label_sets\.(Part|Other)|scoring\.parts\.ProbabilityParts"
    r"|experiment\.calibration\.Calibration|batches\.Batch)"
)
nitpick_ignore_regex = [("py:.*", r"(?!(htc|rlkl|common)\.).*"), ("py:class", ALIASES)]


def tables(app, what, name, obj, options, lines):
    """Docstrings have Markdown's tables; reStructuredText wants others."""
    found, within = [], False
    for line in lines:
        if not line.startswith("|"):
            found, within = [*found, line], False
        elif set(line) - set("|-: "):
            first, *others = (cell.strip() for cell in line.strip("|").split("|"))
            start = [] if within else [".. list-table::", ""]
            found += [*start, f"   * - {first}", *(f"     - {cell}" for cell in others)]
            within = True
    lines[:] = found


def properties(app, what, name, obj, options, lines):
    """Napoleon takes what comes before a colon in a property's docstring for its type; here it seldom is."""
    if what == "property":
        lines[:] = [line.replace(": ", " – ") for line in lines]


def skip_fields(app, what, name, obj, skip, options):
    """The fields of a NamedTuple are in its docstring; by themselves they say nothing."""
    return True if type(obj).__name__ == "_tuplegetter" else None


class Notebook(MystParser):
    """A page from a notebook: its texts, its code, and what the code printed. `docs/examples` is a link to `examples`."""

    supported = ("notebook",)

    def parse(self, inputstring, document):
        """Parse the notebook as the Markdown that it comes to."""
        super().parse("\n\n".join(map(markdown_of, json.loads(inputstring)["cells"])), document)


def markdown_of(cell):
    """A cell of a notebook as Markdown."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    printed = "".join("".join(output["text"]) for output in cell["outputs"])
    return f"```python\n{source}\n```" + (f"\n\n```text\n{printed.rstrip()}\n```" if printed else "")


def math(as_block):
    """What writes a formula as MathML. Args: as_block: on a line of its own."""

    def visit(self, node):
        try:
            self.body.append(tex2mathml(node.astext(), as_block=as_block))
        except MathError as error:
            raise ValueError(f"{node.source}:{node.line}: the formula {node.astext()!r} cannot be read: {error}") from error
        raise SkipNode

    return visit, None


def setup(app):
    """Called by Sphinx."""
    app.add_source_parser(Notebook)
    app.add_html_math_renderer("mathml", inline_renderers=math(False), block_renderers=math(True))
    app.connect("autodoc-process-docstring", tables)
    app.connect("autodoc-process-docstring", properties, priority=400)  # before napoleon
    app.connect("autodoc-skip-member", skip_fields)
