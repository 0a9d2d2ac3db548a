"""Sphinx: `make docs` builds these pages into outputs/docs. Nothing here or there needs the network."""

project = "rlkl and htc"
html_title = project
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_show_copyright = False
default_role = "code"  # docstrings have names in single backticks
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_ivar = True
# Other projects' types, and our own by their bare names: no page here describes them.
nitpick_ignore_regex = [("py:.*", r"(?!(htc|rlkl|common)\.).*"), ("py:class", r"htc\.metrics\.ranking\.Curve")]


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


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", tables)
    app.connect("autodoc-process-docstring", properties, priority=400)  # before napoleon
    app.connect("autodoc-skip-member", skip_fields)
