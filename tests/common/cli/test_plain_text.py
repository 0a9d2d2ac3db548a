"""File names, column names and other texts mean themselves on the command line, on every command."""

from dataclasses import dataclass, field, make_dataclass

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

import htc.experiment.config
import rlkl.commands.config
import rlkl_htc_common.dashboards
from rlkl_htc_common.cli.grammar import as_config, literal, meaning_itself
from rlkl_htc_common.cli.plain_text import NULL_IS_TEXT, TextKey, as_override, text_keys
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.runs.commands import as_argument, override_for_people

NAMES = [
    "plain.csv",
    "reports (1).csv",
    "R&D=2024.csv",
    "Ärzte – élèves ñ.csv",
    "文書.csv",
    "документы.tsv",
    "قائمة.csv",
    "[draft] {v2}.csv",
    "[a]",
    "{a: b}",
    "a, b.csv",
    ",",
    "it's.csv",
    'say "hi".csv',
    "'quoted'",
    '"quoted"',
    "mixed 'a\" b",
    "${HOME}.csv",
    "${",
    "a${b",
    "\\${x}",
    "\\\\${x}\\",
    "$x $(y) `z`",
    "back\\slash",
    "C:\\Users\\me\\",
    "ends in \\",
    "\\'",
    " leading",
    "trailing ",
    "two  blanks",
    "tab\there",
    "line\nbreak",
    "ends in a line break\n",
    "#1.csv",
    "50%.csv",
    "~/documents",
    "~",
    "a:b",
    "*?|<>;!@^+",
    "-x",
    "--help",
    "key=value",
    "++a=b",
    "choice(a,b)",
    "range(3)",
    "true",
    "False",
    "nan",
    "inf",
    "1e3",
    "007",
    "1_000",
    "-0",
    "?",
    "????",
    ".",
    "..",
    "a/b//c/",
    "e\u0301",  # decomposed
    "😀.csv",
    "",
]


@dataclass
class Inner:
    file: str = ""
    columns: list[str] | None = None


@dataclass
class Chosen(Inner):
    other: str | None = None


@dataclass
class Schema:
    inner: Inner = field(default_factory=Inner)
    path: str = ""
    maybe: str | None = None
    verbatim: str | None = field(default=None, metadata=NULL_IS_TEXT)
    count: int = 0
    numbers: list[int] = field(default_factory=list)
    pairs: list[list[str]] = field(default_factory=list)


KEYS = text_keys(Schema)
# A field of each kind for each name, so that all are composed at once.
Many = make_dataclass(
    "Many",
    [
        each
        for number in range(len(NAMES))
        for each in (
            (f"path{number}", str, ""),
            (f"maybe{number}", str | None, field(default=None)),
            (f"list{number}", list[str], field(default_factory=list)),
        )
    ],
)
MANY = text_keys(Many)


@pytest.fixture
def composed(tmp_path):
    """From overrides of `Many` to what they set."""
    ConfigStore.instance().store(name="many_schema", node=Many)
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        yield lambda overrides: vars(OmegaConf.to_object(compose("many_schema", overrides)))


def expected(kind, value_of):
    return {f"{kind}{number}": value_of(name) for number, name in enumerate(NAMES)}


def only(kind, values):
    return {key: value for key, value in values.items() if key.startswith(kind)}


def in_quotes(name):
    return next(f"{quote}{name}{quote}" for quote in "\"'" if f"{quote}," not in name)


def test_texts_are_known_by_their_type():
    known = {
        "inner.file": TextKey(many=False, optional=False),
        "inner.columns": TextKey(many=True, optional=True),
        "inner.other": TextKey(many=False, optional=True),
        "path": TextKey(many=False, optional=False),
        "maybe": TextKey(many=False, optional=True),
        "verbatim": TextKey(many=False, optional=False),
    }
    assert known == KEYS


def test_texts_mean_themselves(composed):
    typed = {"path": str, "maybe": str, "list": lambda name: f"[plain (1), {in_quotes(name)} ,{in_quotes(name)}]"}
    wanted = {"path": str, "maybe": str, "list": lambda name: ["plain (1)", name, name]}
    arguments = [f"{key}={value}" for kind, of in typed.items() for key, value in expected(kind, of).items()]
    found = composed([as_override(argument, MANY) for argument in arguments])
    for kind, of in wanted.items():
        assert only(kind, found) == expected(kind, of)


@pytest.mark.parametrize("name", [name for name in NAMES if not (name.startswith("[") and name.endswith("]"))])
def test_one_text_without_brackets_is_a_list_of_one(name):
    assert as_override(f"inner.columns={name}", KEYS) == f"inner.columns=[{literal(name)}]"


def test_texts_in_a_sweep_mean_themselves_in_quotes(composed):
    typed = {"path": lambda name: f"{in_quotes(name)},other (1)", "list": lambda name: f"[{in_quotes(name)}], [a,b (1)]"}
    jobs = [[], []]
    for kind, of in typed.items():
        for key, value in expected(kind, of).items():
            override = OverridesParser.create().parse_override(as_override(f"{key}={value}", MANY, sweeping=True))
            for job, arguments in zip(jobs, BasicSweeper.split_arguments([override], None)[0], strict=True):
                job += arguments
    first, second = map(composed, jobs)
    assert only("path", first) == expected("path", str)
    assert only("list", first) == expected("list", lambda name: [name])
    assert only("path", second) == expected("path", lambda name: "other (1)")
    assert only("list", second) == expected("list", lambda name: ["a", "b (1)"])


@pytest.mark.parametrize(
    ("argument", "sweeping", "override"),
    [
        ("inner.columns=[a,b]", False, "inner.columns=[a,b]"),
        ("inner.columns=[A (1),B,C=D]", False, "inner.columns=['A (1)',B,'C=D']"),
        ("inner.columns=[]", False, "inner.columns=[]"),
        ("inner.columns=null", False, "inner.columns=null"),
        ('inner.columns=["a,b",5" pipe]', False, "inner.columns=['a,b','5\" pipe']"),
        ("maybe=null", False, "maybe=null"),
        ("path=null", False, "path='null'"),
        ("verbatim=null", False, "verbatim='null'"),
        ("path=a, b (1)", True, "path=a,'b (1)'"),
        ('path="a, b"', True, "path='a, b'"),
        ("maybe=null,a", True, "maybe=null,a"),
        ("path=choice(a,b)", True, "path=choice(a,b)"),
        ("inner.columns=[a,b],[c]", True, "inner.columns=[a,b],[c]"),
        ("++path=${maybe}", False, "++path=${maybe}"),
        ("path", False, "path"),
        ("--path=a (1)", False, "--path=a (1)"),
        ("count=3", False, "count=3"),
        ("numbers=[1,2]", False, "numbers=[1,2]"),
        ("group=a(1)", False, "group=a(1)"),
    ],
)
def test_what_is_no_plain_text_stays_hydras(argument, sweeping, override):
    assert as_override(argument, KEYS, sweeping) == override


@pytest.mark.parametrize("argument", ["path=???", "inner.columns=???", "inner.columns=[a,???]", "verbatim=???"])
def test_the_one_text_that_a_config_cannot_hold_is_refused(argument):
    with pytest.raises(InputError, match=r"\?\?\? alone stands for a value that is missing; write a file as \./\?\?\?"):
        as_override(argument, KEYS)


def test_commands_say_texts_as_people_give_them(composed):
    wanted = expected("path", str) | expected("maybe", str) | expected("list", lambda name: [name, "a"])
    arguments = {key: as_argument(key, value, MANY) for key, value in wanted.items()}
    assert composed([as_override(argument, MANY) for argument in arguments.values()]) == wanted
    assert only("path", arguments) == {key: f"{key}={value}" for key, value in only("path", wanted).items()}
    config = as_config(Many(**wanted))
    assert vars(OmegaConf.to_object(config)) == wanted
    for argument in arguments.values():
        assert override_for_people(as_override(argument, MANY), config, MANY)[2] == argument


@pytest.mark.parametrize("value", [None, "null"])
def test_commands_distinguish_null_from_none(composed, value):
    argument = as_argument("maybe0", value, MANY)
    assert composed([as_override(argument, MANY)])["maybe0"] == value


def test_hydras_grammar_and_omegaconf_read_what_we_write(composed):
    assert only("path", composed([f"path{i}={literal(name)}" for i, name in enumerate(NAMES)])) == expected("path", str)
    merged = OmegaConf.merge(as_config(Many()), meaning_itself(expected("list", lambda name: [name])))
    assert only("list", vars(OmegaConf.to_object(merged))) == expected("list", lambda name: [name])


COMMANDS = {
    "htc-train": htc.experiment.config.TrainConfig,
    "htc-evaluate": htc.experiment.config.EvaluateConfig,
    "htc-predict": htc.experiment.config.PredictConfig,
    "htc-demo": htc.experiment.config.DemoConfig,
    "htc.commands.reproduce": htc.experiment.config.ReproduceConfig,
    "rlkl-pretrain": rlkl.commands.config.PretrainConfig,
    "rlkl-finetune": rlkl.commands.config.FinetuneConfig,
    "rlkl-evaluate": rlkl.commands.config.EvaluateConfig,
    "rlkl.commands.analyze": rlkl.commands.config.AnalyzeConfig,
    "rlkl-inspect": rlkl.commands.config.InspectConfig,
    "rlkl.commands.reproduce": rlkl.commands.config.ReproduceConfig,
    "rlkl.commands.reproduce_llm": rlkl.commands.config.ReproduceLLMConfig,
    "rlkl_htc_common.dashboards": rlkl_htc_common.dashboards.DashboardsConfig,
}
DATASET = ("dataset.dir", "dataset.file", "dataset.text", "dataset.levels", "dataset.split", "dataset.taxonomy", "dataset.test")
PATHS = {
    "htc-train": (*DATASET, "encoder.name", "runs", "run_dir", "cache_dir", "tracking.group", "tracking.tags"),
    "htc-evaluate": (*DATASET, "model", "output", "cache_dir"),
    "htc-predict": ("text", "input", "model", "runs"),
    "htc-demo": ("model", "runs", "host", "examples"),
    "htc.commands.reproduce": (*DATASET, "title", "output", "against", "runs", "cache_dir", "encoder.name"),
    "rlkl-pretrain": ("runs", "run_dir"),
    "rlkl-finetune": ("model", "runs", "run_dir"),
    "rlkl-evaluate": ("model", "output"),
    "rlkl.commands.analyze": ("model", "reference", "output"),
    "rlkl-inspect": ("model", "reference", "before", "input", "prompt", "completion", "verifier", "gguf_file", "output"),
    "rlkl.commands.reproduce": ("model", "models", "title", "output", "runs"),
    "rlkl.commands.reproduce_llm": ("model", "title", "output", "runs"),
    "rlkl_htc_common.dashboards": ("output", "entity"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_paths_and_columns_are_texts_on_every_command(command):
    assert set(PATHS[command]) <= text_keys(COMMANDS[command]).keys()
