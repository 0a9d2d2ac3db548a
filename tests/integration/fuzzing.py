"""The package `fuzz`, which is not installed: `make fuzz` runs it from the repository."""

import sys
from importlib import import_module
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))
good, main, source, targets, worker = (
    import_module(f"fuzz.{name}") for name in ("good", "__main__", "source", "targets", "worker")
)
