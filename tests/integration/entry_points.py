import io
import sys
from functools import partial
from types import ModuleType

import pytest

from rlkl_htc_common.commands.entry import compose_and_do

CONFIGS = {"htc": "htc.experiment.config", "rlkl": "rlkl.commands.config"}


def call(main, arguments, monkeypatch, capsys, stdin=None):
    """Run a command in this process. Args: main: its module, or a function. Returns: exit code, output, errors."""
    if isinstance(main, ModuleType):
        distribution, _, command = main.__name__.split(".")
        main = partial(compose_and_do, distribution, command, CONFIGS[distribution])
    monkeypatch.setattr(sys, "argv", ["prog", *map(str, arguments)])
    if stdin is not None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
    with pytest.raises(SystemExit) as stop:
        main()
    output = capsys.readouterr()
    return stop.value.code, output.out, output.err
