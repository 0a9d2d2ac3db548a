"""The pages of docs/: links lead somewhere, what they name exists, and Sphinx has nothing to complain of.

Their commands, and those of the READMEs, compose.
"""

import dataclasses
import re
import shlex
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hydra import compose, initialize_config_dir

import htc.experiment.config
import rlkl.commands.config
import rlkl.settings
from htc.decoding.by_name import ALL_RULES
from htc.settings import LossSettings, ModelSettings
from rlkl_htc_common.cli.plain_text import as_override, text_keys
from rlkl_htc_common.commands.repository import texts_are_no_groups

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = {str(page.relative_to(DOCS)): page.read_text(encoding="utf-8") for page in PAGES}
EVERY_PAGE = pytest.mark.parametrize("page", TEXTS)
SCRIPTS = {
    name: target.replace("scripts:", "")
    for project in (ROOT / "packages").glob("*/pyproject.toml")
    for name, target in tomllib.loads(project.read_text())["project"].get("scripts", {}).items()
}  # htc-train -> htc.commands.train
NAMES = "train|evaluate|predict|reproduce(?:-llm)?|pretrain|finetune|analyze|inspect"
ENTRY = rf"(?:(?:htc|rlkl)-(?:{NAMES})\b|python -m \w+\.\w+|torchrun )"
COMMAND = re.compile(rf"(?:^|\$ |`)((?:\w+=\w+ )?{ENTRY}[^`\n>|]*)", flags=re.MULTILINE)
READMES = [file.read_text(encoding="utf-8") for file in (ROOT / "README.md", *(ROOT / "packages").glob("*/README.md"))]
COMMANDS = sorted(
    {command.strip() for text in (*TEXTS.values(), *READMES) for command in COMMAND.findall(re.sub(r"\\\n *", "", text))}
)
SCHEMAS = {
    name: value
    for module in (htc.experiment.config, rlkl.commands.config)
    for name, value in vars(module).items()
    if name.endswith("Config")
}
FIELDS = {
    field.name
    for schema in (
        *SCHEMAS.values(),
        rlkl.settings.PenaltySettings,
        rlkl.settings.AlgorithmSettings,
        LossSettings,
        ModelSettings,
    )
    for field in dataclasses.fields(schema)
}
NOT_INSTALLED = ("hydra/sweeper=optuna", "hydra.sweeper.")
GROUPS = {"experiment", "profile", "llm"}  # keys that choose a file, but are in no schema


@EVERY_PAGE
def test_every_relative_link_leads_somewhere(page):
    for target in re.findall(r"\]\((?:path:)?([^)\s]+)\)", re.sub(r"```.*?```", "", TEXTS[page], flags=re.DOTALL)):
        if not urlsplit(target).scheme and not target.startswith("#"):
            assert (DOCS / page).parent.joinpath(target.partition("#")[0]).exists(), target


@EVERY_PAGE
def test_every_file_that_is_named_exists(page):
    for name in re.findall(r"`((?:conf|packages|tests|results|docs)/[\w/.-]+)`", TEXTS[page]):
        assert (ROOT / name).exists() or name.endswith(("carryless.py", "NAME.yaml")), name  # what the reader is to write


@EVERY_PAGE
def test_every_make_target_exists(page):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:\$ |`)make ([a-z-]+)", TEXTS[page]):
        assert re.search(rf"^{target}:.*## ", makefile, flags=re.MULTILINE), target


@EVERY_PAGE
def test_every_page_is_in_a_table_of_contents(page):
    trees = {
        (DOCS / other).parent.joinpath(f"{entry}.md").resolve()
        for other, text in TEXTS.items()
        for tree in re.findall(r"```{toctree}\n(.*?)```", text, flags=re.DOTALL)
        for entry in re.findall(r"^[\w./-]+$", tree, flags=re.MULTILINE)
    }
    assert page == "index.md" or (DOCS / page).resolve() in trees


def test_every_entry_point_is_described():
    described = TEXTS["reference/command-line.md"]
    assert set(re.findall(r"^\| `((?:htc|rlkl)-[a-z-]+)`", described, flags=re.MULTILINE)) == set(SCRIPTS)


def test_every_choice_is_described():
    rows = re.findall(r"^\| `(\w+)` \| (htc|rlkl) \| (.*) \|$", TEXTS["reference/command-line.md"], flags=re.MULTILINE)
    assert len(rows) == 8
    for group, package, choices in rows:
        files = {file.stem for file in (ROOT / "conf" / package / group).glob("*.yaml")}
        assert set(re.findall(r"`(\w+)`", choices)) == files, group


def test_every_inference_rule_is_described():
    table = TEXTS["explanation/hierarchies.md"].partition("## Inference rules")[2]
    assert set(re.findall(r"^\| `(\w+)` \| ", table, flags=re.MULTILINE)) == set(ALL_RULES)


def write_files(folder):
    """Write the YAML files that the pages show with their name in a first comment."""
    for page in TEXTS.values():
        for name, text in re.findall(r"```yaml\n# ([\w./-]+\.yaml)\n(.*?)```", page, flags=re.DOTALL):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes(command, tmp_path):
    words = shlex.split(re.sub(r"\$\([^)]*\)", "folder", command), comments=True)
    words = [SCRIPTS.get(word, word) for word in words]
    assert not [word for word in words if re.fullmatch(r"(htc|rlkl)-\w+", word)]
    (module,) = [word for word in words if re.fullmatch(r"(htc|rlkl|rlkl_htc_common)\.[\w.]+", word)]
    package, application = module.split(".")[0], module.split(".")[-1]
    if package == "rlkl_htc_common":
        return
    settings = {"htc": htc.experiment.config, "rlkl": rlkl.commands.config}[package]
    texts = text_keys(settings.SCHEMAS[application])
    overrides = [word for word in words[words.index(module) + 1 :] if "=" in word and not word.startswith(NOT_INSTALLED)]
    sweeping = "--multirun" in words
    overrides = [as_override(word, texts, sweeping) for word in overrides]
    if sweeping:  # one job of the grid
        overrides = [re.sub(r"=(?:choice\(|tag\(log, interval\()?([^,\[]*),.*", r"=\1", word) for word in overrides]
    if "--config-dir" in words:
        folder = tmp_path / words[words.index("--config-dir") + 1]
        write_files(tmp_path)
        assert any(folder.rglob("*.yaml"))
        overrides.append(f"hydra.searchpath=[file://{folder}]")
    settings.register()
    with texts_are_no_groups(texts), initialize_config_dir(str(ROOT / "conf" / package), version_base="1.3"):
        compose(application, overrides, return_hydra_config=True)


@EVERY_PAGE
def test_every_key_that_is_named_is_in_a_schema(page):
    for key in re.findall(r"`([a-z_]+(?:\.[a-z_]+)*)=[^`]*`", TEXTS[page]):
        assert key.startswith("hydra.") or set(key.split(".")) <= FIELDS | GROUPS, key


class Links(HTMLParser):
    """What a page leads to and shows, and the places in it that others may lead to."""

    def __init__(self, file):
        super().__init__()
        self.targets, self.places = set(), set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.targets.add(value)
            elif name == "id":
                self.places.add(value)


@pytest.mark.slow
def test_the_pages_build_without_a_warning_and_lead_nowhere_that_is_not(built):
    html, warnings = built
    assert not warnings.strip()
    pages = {file: Links(file) for file in html.rglob("*.html")}
    assert not any(re.search(r"<script[^>]*\ssrc=.?(https?:)?//", file.read_text(encoding="utf-8")) for file in pages)
    assert len(pages) > len(PAGES)
    for file, page in pages.items():
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            leads_to = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            assert leads_to.exists(), f"{file.name}: {target}"
            if parts.fragment and leads_to in pages:
                assert unquote(parts.fragment) in pages[leads_to].places, f"{file.name}: {target}"
