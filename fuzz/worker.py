"""One target, for some seconds: `python -m fuzz.worker TARGET SECONDS FOLDER`, as `python -m fuzz` starts it.

With atheris, which is libFuzzer, inputs are those that reach code not reached before; without it they are inputs that are
known, changed at random with a fixed seed. The record, FOLDER/record.json, is written as it goes, for a process that ends
early; FOLDER/corpus keeps what reached new code, FOLDER/finding-N the first input of each finding.
"""

import json
import logging
import os
import random
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

LONGEST = 8192  # bytes of an input
SLOWEST = 60  # seconds that an input may take
SEEDS = (b"", *(bytes([kind, *range(1, 40)]) for kind in range(16)), b"\x01{}", b"\x01[]", b"\x01" + 600 * b"[")
ENGINE = "atheris" if find_spec("atheris") else "random"


class Recorder:
    """Counts inputs, and keeps the first of each finding.

    Args:
        run: called with each input; what it raises is a finding.
        seconds: after so many, the process ends.
        folder: of the record and the inputs.
    """

    def __init__(self, run: Callable[[bytes], None], seconds: float, folder: Path) -> None:
        self.run, self.seconds, self.folder = run, seconds, folder
        self.inputs = 0
        self.findings: dict[str, dict[str, Any]] = {}
        self.started = self.written = time.monotonic()
        self.write()

    def __call__(self, data: bytes) -> None:
        """Try one input; when the time is over, write the record and end the process."""
        try:
            self.run(data)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of Rust code is no Exception
            self._note(error, data)
        self.inputs += 1
        now = time.monotonic()
        if now - self.written > 1 or now - self.started > self.seconds:
            self.write()
        if now - self.started > self.seconds:
            os._exit(0)  # libFuzzer does not return

    def _note(self, error: BaseException, data: bytes) -> None:
        steps = traceback.extract_tb(error.__traceback__)
        ours = [step for step in steps if "/packages/" in step.filename] or steps
        where = f"{ours[-1].filename.partition('/packages/')[2] or Path(ours[-1].filename).name}:{ours[-1].name}"
        finding = self.findings.setdefault(f"{type(error).__name__} in {where}", {})
        if not finding:
            file = self.folder / f"finding-{len(self.findings)}"
            file.write_bytes(data)
            (self.folder / f"{file.name}.txt").write_text("".join(traceback.format_exception(error)))
            said = " ".join(str(error).split())[:200]
            finding |= {"exception": type(error).__name__, "where": where, "said": said, "input": file.name, "times": 0}
        finding["times"] += 1

    def write(self) -> None:
        """Write the record."""
        self.written = time.monotonic()
        record = {
            "engine": ENGINE,
            "inputs": self.inputs,
            "seconds": round(self.written - self.started, 1),
            "findings": list(self.findings.values()),
        }
        temporary = self.folder / ".record.json"
        temporary.write_text(json.dumps(record))
        temporary.replace(self.folder / "record.json")


def mutations(seeds: list[bytes]) -> Iterator[bytes]:
    """The seeds, then endlessly one of them with some bytes changed, and inputs at random."""
    generator = random.Random(0)
    yield from seeds
    while True:
        data = bytearray(generator.choice((generator.choice(seeds), generator.randbytes(generator.randrange(1, 200)))))
        for _ in range(generator.randrange(4)):
            at = generator.randrange(len(data) + 1)
            data[at : at + generator.randrange(3)] = generator.randbytes(generator.randrange(4))
        yield bytes(data[:LONGEST])


@contextmanager
def _instrumented() -> Iterator[None]:
    """Note which code of the packages is reached, where atheris is there."""
    if ENGINE != "atheris":
        yield
        return
    import atheris

    with atheris.instrument_imports(include=["rlkl_htc_common", "htc", "rlkl"]):
        yield


def main() -> None:
    """Fuzz the target that the command line names."""
    name, seconds, folder = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])
    with _instrumented():
        from fuzz import targets
    import torch

    torch.set_num_threads(1)
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    target = targets.TARGETS[name]
    targets.run(target, b"")  # makes what is made once
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for number, seed in enumerate(SEEDS):
        (corpus / f"seed-{number}").write_bytes(seed)
    recorder = Recorder(lambda data: targets.run(target, data), seconds, folder)
    if ENGINE == "atheris":
        import atheris

        limits = [f"-max_len={LONGEST}", f"-timeout={SLOWEST}", "-rss_limit_mb=6000", f"-artifact_prefix={folder}/killed-"]
        atheris.Setup([sys.argv[0], *limits, "-seed=1", "-len_control=20", str(corpus)], recorder)
        atheris.Fuzz()
    for data in mutations([file.read_bytes() for file in sorted(corpus.iterdir())]):
        recorder(data)


if __name__ == "__main__":
    main()
