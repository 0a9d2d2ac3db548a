from importlib.metadata import PackageNotFoundError

import pytest

import htc
import rlkl
import rlkl_htc_common
from rlkl_htc_common import extras
from rlkl_htc_common.cli import program
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.extras import MissingExtraError, require

REQUIREMENTS = {
    "app": [
        "numpy>=2.0",
        "rest[train]; extra == 'train'",
        "one>=1.0,<2; extra == 'train'",
        "other; extra == 'cluster'",
        "rest[cluster]>=2 ; python_version < '4' and extra == \"cluster\"",
    ],
    "rest": ["two; extra == 'train'", "three[fast]>=3; extra == 'train'", "rest[train]; extra == 'cluster'"],
    "three": ["four; extra == 'fast'"],
}


@pytest.fixture
def installed(monkeypatch):
    """The names of the distributions that are installed, to be changed by a test."""
    names = {"app", "rest", "one", "two", "three", "four", "other"}

    def find(name):
        if name not in names:
            raise PackageNotFoundError(name)
        return name

    monkeypatch.setattr(extras, "distribution", find)
    monkeypatch.setattr(extras, "version", find)
    monkeypatch.setattr(extras, "requires", lambda name: REQUIREMENTS[find(name)])
    return names


@pytest.mark.parametrize(
    ("missing", "extra", "names", "message"),
    [
        ({"one"}, "app[train]", (), "this needs one, not installed here: pip install 'app[train]'"),
        ({"two"}, "app[train]", (), "this needs two, "),  # an extra of another
        ({"four"}, "app[train]", (), "this needs four, "),
        ({"one", "two", "four"}, "app[train]", (), "this needs four, one, two, not"),
        ({"other", "one"}, "app[train]", (), "this needs one, "),
        ({"other", "two"}, "app[cluster]", (), "this needs other, two, "),
        ({"one"}, "app[train]", ("two",), None),
        ({"one", "two"}, "app[train]", ("two",), "this needs two, "),
        (set(), "app[train]", (), None),
        ({"one", "two", "app"}, "app[train]", (), None),  # it runs from its source folder, so that nothing is known of it
    ],
)
def test_what_is_missing_is_reported_with_its_remedy(installed, missing, extra, names, message):
    installed -= missing
    if message is None:
        require(extra, *names)
        return
    with pytest.raises(MissingExtraError) as raised:
        require(extra, *names)
    assert str(raised.value).startswith(message)
    assert isinstance(raised.value, ImportError)
    assert isinstance(raised.value, InputError)


def test_many_are_counted(monkeypatch):
    monkeypatch.setattr(extras, "_is_installed", lambda name: False)
    with pytest.raises(MissingExtraError, match="this needs a, b, c and 2 more, not installed here: pip install 'x"):
        require("x[y]", *"abcde")


def test_commands_report_it_at_once(installed, monkeypatch, capsys):
    installed -= {"one"}
    monkeypatch.setattr("sys.argv", ["/bin/app-train"])
    monkeypatch.setattr("rlkl_htc_common.cli.interruption.answer_signals", lambda name: None)
    with pytest.raises(SystemExit) as stop:
        program.begin("app")
    assert stop.value.code == 2
    assert capsys.readouterr().err == "app-train: this needs one, not installed here: pip install 'app[train]'\n"


@pytest.mark.parametrize("package", [htc, rlkl, rlkl_htc_common])
def test_packages_know_their_version(package, monkeypatch):
    assert package.__version__ == extras.version_of(package.__name__.replace("_", "-"))
    assert not hasattr(package, "nothing")
    assert extras.version_of("no-such-package") == "unknown"
