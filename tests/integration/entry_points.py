import io
import sys

import pytest


def call(main, arguments, monkeypatch, capsys, stdin=None):
    """Run an entry point in this process. Returns: exit code, standard output, standard error."""
    monkeypatch.setattr(sys, "argv", ["prog", *map(str, arguments)])
    if stdin is not None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
    with pytest.raises(SystemExit) as stop:
        main()
    output = capsys.readouterr()
    return stop.value.code, output.out, output.err
