"""rlkl-evaluate: a model's accuracy on N to N + 3 digits, its certainty, and the places of its errors.

rlkl-evaluate                                           the embedded model, 1,000 problems of each kind
rlkl-evaluate model=runs/rlkl/finetune/RUN/model examples=200 show=3
rlkl-evaluate digits=[5,6] operands=[varying] output=evaluation.json
rlkl-evaluate digits=[5,6] operands=[training_mix] temperature=2    the evaluation of the paper's RL figures
"""

if __name__ == "__main__":  # before the slow imports
    from rlkl.commands import scripts

    scripts.evaluate()


import logging
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm
from transformers import GPT2LMHeadModel

from rlkl.analysis.certainty_gaps import Scratchpad, certainty_gaps, errors, scratchpads
from rlkl.commands.config import EvaluateConfig
from rlkl.model.completion import check_positions, complete, grades, sample
from rlkl.model.language_model import fingerprint, load_on_device, task_of
from rlkl.model.texts import positions_needed
from rlkl.report.scratchpad_view import to_terminal
from rlkl.settings import KINDS
from rlkl.tasks.registry import task_named
from rlkl_htc_common.commands.application import print_as_is, print_result
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.report.statistics import bootstrap
from rlkl_htc_common.runs.directory import RunDirectory, config_hash, git_commit, make_folder, versions, write_json

log = logging.getLogger(__name__)


def check(config: EvaluateConfig) -> None:
    """Raise InputError for settings that would fail later."""
    for name, lowest in (("examples", 1), ("generations", 1), ("show", 0)):
        if getattr(config, name) < lowest:
            raise InputError(f"{name} must be at least {lowest}, not {getattr(config, name)}.")
    if not 0 <= config.temperature < math.inf:
        raise InputError(f"temperature must be a number of at least 0, not {config.temperature}.")
    unknown = [kind for kind in config.operands if kind not in KINDS]
    if unknown or not config.operands:
        raise InputError(f"operands must be a list of {', '.join(KINDS)}, not {config.operands}.")
    if config.digits is not None and (not config.digits or min(config.digits) < 1):
        raise InputError(f"digits must be a list of positive numbers, not {config.digits}.")
    if config.output is not None and Path(config.output).exists():
        raise InputError(f"{config.output} exists; choose another output.")


class Setting(NamedTuple):
    """One row of an evaluation: a kind of operands and their number of digits."""

    operands: str
    digits: int


def settings(config: EvaluateConfig, model: GPT2LMHeadModel) -> list[Setting]:
    """The rows of an evaluation.

    Raises:
        InputError: if the model has too few positions for the digits. With the default digits (N to N + 3), those that do not
            fit are left out with a warning.
    """
    task, trained, positions = task_of(model), model.config.trained_digits, model.config.n_positions
    check_positions(task, positions, max([trained + 1, *(config.digits or [])]))  # certainty is measured on N + 1
    digits = config.digits or [trained + extra for extra in range(4)]
    fitting = [number for number in digits if positions_needed(task, number) <= positions]
    if len(fitting) < len(digits):
        held = f"{task.PLURAL} of up to {max(fitting)} digits"
        log.warning("%s has %d positions, which hold %s.", config.model, positions, held)
    return [Setting(kind, number) for kind in config.operands for number in fitting]


def evaluate(config: EvaluateConfig, progress: bool = True) -> dict[str, Any]:
    """Evaluate a model. Returns: see `gather`."""
    check(config)
    if config.output is not None:
        make_folder(Path(config.output).parent)
    model = load_on_device(config.model)
    chosen = settings(config, model)
    total, unit = len(chosen) * config.examples, task_of(model).PLURAL
    with tqdm(total=total, desc=unit, unit="", disable=not progress, leave=False) as bar:
        rows = [_evaluate_setting(model, config, setting, bar.update) for setting in chosen]
    result = gather(model, config, rows)
    if config.output is not None:
        write_json(Path(config.output), result)
    return result


def row_directory(model: GPT2LMHeadModel, config: EvaluateConfig, setting: Setting, runs: str) -> RunDirectory:
    """The run directory of one row, below `runs`."""
    how = {"examples": config.examples, "temperature": config.temperature, "seed": config.seed}
    identity = {"model": fingerprint(model), **setting._asdict(), **how}
    name = f"{setting.operands}-{setting.digits}-{config_hash(identity)}"
    return RunDirectory(Path(runs) / "rlkl" / "evaluate" / name, identity)


def evaluate_setting(model: GPT2LMHeadModel, config: EvaluateConfig, setting: Setting, runs: str) -> dict[str, Any]:
    """One row of an evaluation, with its own run directory: a finished row is not computed again."""
    run = row_directory(model, config, setting, runs)
    result = run.once(lambda: run.write_result(row=_evaluate_setting(model, config, setting, lambda done: None)))
    return dict(result["row"])


def gather(model: GPT2LMHeadModel, config: EvaluateConfig, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Add the measurements on N + 1 digits to the rows.

    Returns:
        `rows`, one per kind and number of digits: the accuracy with a bootstrap interval over problems, and where wrong answers
        begin (`certainty_gaps.errors`); `certainty`, the gaps on N + 1 digits; `scratchpads`, a few examples of N + 1 digits;
        and the settings and versions.
    """
    task, trained = task_of(model), model.config.trained_digits
    longer = sample(task, "identical", trained + 1, config.generations, config.seed)
    shown = sample(task, "varying", trained + 1, config.show, config.seed)
    texts = complete(model, shown, temperature=config.temperature) if shown else []
    return {
        "model": config.model,
        "fingerprint": fingerprint(model),
        "task": task.NAME,
        "trained_digits": trained,
        "examples": config.examples,
        "temperature": config.temperature,
        "seed": config.seed,
        "rows": rows,
        "certainty": certainty_gaps(model, longer, trained),
        "scratchpads": scratchpads(model, shown, texts, trained) if shown else [],
        "git_commit": git_commit(),
        "versions": versions(),
    }


def _evaluate_setting(
    model: GPT2LMHeadModel, config: EvaluateConfig, setting: Setting, advance: Callable[[int], object]
) -> dict[str, Any]:
    task = task_of(model)
    trained = model.config.trained_digits
    operands = sample(task, setting.operands, setting.digits, config.examples, config.seed, trained)
    texts = complete(model, operands, temperature=config.temperature, seed=config.seed, advance=advance)
    interval = bootstrap([float(right) for right in grades(task, operands, texts)])
    accuracy = {"accuracy": interval.mean, "low": interval.low, "high": interval.high}
    return setting._asdict() | accuracy | errors(task, operands, texts, trained)


def summary(result: dict[str, Any]) -> str:
    """The result as text for a terminal."""
    wide = max(10, *(len(row["operands"]) for row in result["rows"]))
    lines = [
        f"{'operands':{wide}} {'digits':>6}  accuracy (95% interval)   wrong answers that begin at a critical token / in a list"
    ]
    for row in result["rows"]:
        beyond = row["digits"] - result["trained_digits"]
        name = f"N+{beyond}" if beyond > 0 else "N" if beyond == 0 else f"N{beyond}"
        lines.append(
            f"{row['operands']:{wide}} {row['digits']:2} {name:>4} "
            f"{row['accuracy']:6.3f} ({row['low']:.3f} to {row['high']:.3f})"
            f"{row['wrong']:10} {row['critical']:8.2f} / {row['operand_lists']:.2f}"
        )
    measured = f"{result['certainty']['problems']} {task_named(result['task']).PLURAL}"
    lines.append(f"certainty on N+1 digits, against the other characters ({measured}):")
    for name, gap in result["certainty"]["gaps"].items():
        lines.append(f"  {name:14} {gap['mean']:+.4f} ± {gap['deviation']:.4f}")
    return "\n".join(lines)


def _shown(scratchpads: Sequence[Scratchpad]) -> str:
    color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    return "\n".join(f"{'right' if pad['right'] else 'WRONG'}\n{to_terminal(pad, color)}" for pad in scratchpads)


def task(config: DictConfig) -> None:
    """rlkl-evaluate."""
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, EvaluateConfig)
    result = evaluate(typed)
    if result["scratchpads"]:
        print_as_is(_shown(result["scratchpads"]))  # with colours
    print_result(summary(result))
