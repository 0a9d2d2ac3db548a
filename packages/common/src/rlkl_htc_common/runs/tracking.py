"""Tracking: metrics go to metrics.jsonl, and a copy goes to wandb.

wandb is offline by default and never blocks a run: without an API key it stays offline, and if the network does not answer in
time it falls back to offline with a warning. `wandb sync` sends offline runs later.

Documents may be private: they are sent only with `tracking.documents=true`. docs/how-to/wandb.md lists what is sent.
"""

import json
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from rlkl_htc_common.errors import InputError
from rlkl_htc_common.runs.directory import RunDirectory, config_hash, write_atomically
from rlkl_htc_common.terminal import printable

log = logging.getLogger(__name__)

MODES = ("offline", "online", "disabled")
INIT_TIMEOUT = 20  # seconds, to start and to finish
NOTHING: Mapping[str, float] = MappingProxyType({})


@dataclass
class TrackingConfig:
    """How wandb is used. The environment variable WANDB_MODE overrides `mode`.

    Attributes:
        mode: offline, online or disabled.
        project, entity: where runs go on wandb; null for your default entity.
        group: the group of the run on wandb.
        tags: tags of the run on wandb.
        documents: whether texts of documents, with labels and predictions, may go to wandb.
    """

    mode: str = "offline"
    project: str = "rlkl-htc"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    documents: bool = False


class Mirror:
    """A run in wandb, which gets copies of what is elsewhere; a context manager.

    Args:
        folder: where wandb writes.
        settings: of the run, as plain containers.
        config: how to use wandb.
        job_type, name: the job type and name of the run in wandb.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], config: TrackingConfig, *, job_type: str, name: str) -> None:
        self._documents = config.documents
        mode = wandb_mode(config)
        self._wandb = _init_wandb(folder, settings, config, mode, job_type, name) if mode != "disabled" else None

    def summarize(self, metrics: Mapping[str, float]) -> None:
        """Put final numbers into wandb's summary; result.json holds them too."""
        self._mirror(lambda run: run.summary.update(dict(metrics)))

    @property
    def mirrors(self) -> bool:
        """Whether there is a wandb run; without one, pages need not be computed."""
        return self._wandb is not None

    @property
    def takes_documents(self) -> bool:
        """Whether there is a wandb run that may receive documents."""
        return self.mirrors and self._documents

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str | float | None]]) -> None:
        """Put a table into wandb, its texts escaped by `printable`; of documents only if `takes_documents`."""
        data = [[printable(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]

        def log_table(run: Any) -> None:
            import wandb

            run.log({name: wandb.Table(columns=list(map(printable, columns)), data=data)})

        self._mirror(log_table)

    def page(self, name: str, html: str) -> None:
        """Put HTML into wandb, escaped by `printable`."""

        def log_page(run: Any) -> None:
            import wandb

            run.log({name: wandb.Html(printable(html), inject=False)})

        self._mirror(log_page)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._mirror(lambda run: run.finish(exit_code=0 if kind is None else 1))

    def _mirror(self, action: Callable[[Any], None]) -> None:
        """Call `action` on the wandb run. If wandb fails, go on without it: what it gets are copies."""
        if self._wandb is None:
            return
        try:
            action(self._wandb)
        except Exception as error:  # a failure of wandb must not end the training
            log.warning("wandb failed (%s: %s); the run goes on without it.", type(error).__name__, first_line(error))
            self._wandb = None


class Tracker(Mirror):
    """Logs the metrics of one run; a context manager.

    Args:
        run: the run directory.
        config: how to use wandb.
        job_type, name: the job type and name of the run in wandb.
        resume_step: drop what an earlier, killed process logged after this step, so that no step appears twice.
        forget: prefixes of names that are also dropped at this step.
    """

    def __init__(
        self,
        run: RunDirectory,
        config: TrackingConfig,
        *,
        job_type: str,
        name: str,
        resume_step: int | None = None,
        forget: tuple[str, ...] = (),
    ) -> None:
        wandb_mode(config)
        _forget_after(run, -1 if resume_step is None else resume_step, forget)
        self._file = run.metrics_file.open("a", encoding="utf-8")
        super().__init__(run.path, run.config, config, job_type=job_type, name=name)

    def log(self, step: int, metrics: Mapping[str, float], speed: Mapping[str, float] = NOTHING) -> None:
        """Log numbers at a step; steps must not go down.

        Args: speed: numbers that differ whenever a run is repeated; wandb gets them, and metrics.jsonl does not.
        """
        finite = {key: value if math.isfinite(value) else None for key, value in metrics.items()}
        self._file.write(json.dumps({"step": step, **finite}) + "\n")
        self._file.flush()
        self._mirror(lambda run: run.log({**metrics, **speed}, step=step))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._file.close()
        super().__exit__(kind, error, traceback)


def open_tracker(
    run: RunDirectory,
    config: TrackingConfig,
    *,
    main: bool,
    job_type: str,
    resume_step: int | None,
    forget: tuple[str, ...] = (),
) -> AbstractContextManager[Tracker | None]:
    """The tracker of a run in its main process; None in the others. Args: see `Tracker`."""
    if not main:
        return nullcontext()
    return Tracker(run, config, job_type=job_type, name=run.path.name, resume_step=resume_step, forget=forget)


def wandb_mode(config: TrackingConfig) -> str:
    """WANDB_MODE if set, else the config's mode. Raises InputError for an unknown one."""
    variable = os.environ.get("WANDB_MODE")
    mode = variable or config.mode
    if mode not in MODES:
        raise InputError(f"{'WANDB_MODE' if variable else 'tracking.mode'} must be one of {', '.join(MODES)}, not {mode!r}.")
    return mode


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return str(error).partition("\n")[0]


def _forget_after(run: RunDirectory, step: int, names: tuple[str, ...]) -> None:
    """Drop metrics that were logged after a step, and at that step those whose names begin with one of `names`."""
    if not run.metrics_file.exists():
        return
    kept = []
    lines = run.metrics_file.read_bytes().splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            logged = json.loads(line)
            if logged["step"] == step and names:
                line = json.dumps({key: value for key, value in logged.items() if not key.startswith(names)}).encode()
            if logged["step"] <= step:
                kept.append(line.decode() + "\n")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            if number < len(lines):  # the last line may be cut by a kill: no warning
                log.warning("%s:%d is damaged; what was logged from there on is dropped.", run.metrics_file, number)
            break
    write_atomically(run.metrics_file, "".join(kept))


def _init_wandb(
    folder: Path, run_settings: Mapping[str, Any], config: TrackingConfig, mode: str, job_type: str, name: str
) -> Any:
    """A wandb run; offline if online fails, None if both fail."""
    import wandb

    if mode == "online" and not wandb.api.api_key:
        log.warning("wandb: no API key found (run `wandb login`), so this run is tracked offline.")
        mode = "offline"

    def init(mode: str) -> Any:
        return wandb.init(
            project=config.project,
            entity=config.entity,
            group=config.group,
            tags=config.tags,
            job_type=job_type,
            name=name,
            id=f"{name}-{config_hash(run_settings)}".replace("/", "-"),
            resume="allow" if mode == "online" else None,
            config=dict(run_settings),
            dir=str(folder),
            mode=mode,  # type: ignore[arg-type]
            settings=wandb.Settings(
                init_timeout=INIT_TIMEOUT,
                finish_timeout=INIT_TIMEOUT,
                silent=True,
                console="off",
                save_code=False,  # it would send a diff of all files in git, which may include documents
            ),
        )

    for attempt in dict.fromkeys((mode, "offline")):
        try:
            return init(attempt)
        except Exception as error:  # no failure of wandb may stop a training
            log.warning("wandb could not start %s (%s: %s).", attempt, type(error).__name__, first_line(error))
    return None
