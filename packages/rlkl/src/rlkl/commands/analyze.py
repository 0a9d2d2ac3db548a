"""rlkl-analyze: why a model fails on N + 1 digits. Does its uncertainty detect the critical tokens? How important are single
characters? With a second model: what did fine-tuning change?

rlkl-analyze                                  the embedded model, about two minutes
rlkl-analyze model=runs/rlkl/finetune/RUN/model reference=addition-n5 output=outputs/analysis
"""

if __name__ == "__main__":  # before the slow imports
    from rlkl.commands import scripts

    scripts.analyze()


import logging
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm
from transformers import GPT2LMHeadModel

from rlkl.analysis.counterfactual import Outcome, counterfactuals, mean_by_problem, sample_places
from rlkl.analysis.critical_tokens import piece_at
from rlkl.analysis.detection import detect, heldout_temperature
from rlkl.analysis.drift import drift_by_digits
from rlkl.commands.config import AnalyzeConfig
from rlkl.model.completion import check_positions, complete, sample
from rlkl.model.language_model import check_reference, fingerprint, load_on_device, task_of
from rlkl.report.analysis import ANALYSIS, QUESTIONS, write_analysis_report
from rlkl.settings import OPERANDS
from rlkl.tasks.operands import Operands
from rlkl.tasks.registry import Task, task_named
from rlkl_htc_common.commands.application import print_result
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.report.statistics import bootstrap
from rlkl_htc_common.runs.directory import git_commit, make_folder, versions, write_json

log = logging.getLogger(__name__)


def check(config: AnalyzeConfig) -> None:
    """Raise InputError for settings that would fail later."""
    for name in ("examples", "problems", "samples"):
        if getattr(config, name) < 1:
            raise InputError(f"{name} must be at least 1, not {getattr(config, name)}.")
    if not 0 <= config.temperature < math.inf:
        raise InputError(f"temperature must be a number of at least 0, not {config.temperature}.")
    if config.operands not in OPERANDS:
        raise InputError(f"operands must be {' or '.join(OPERANDS)}, not {config.operands!r}.")
    if config.output is not None and Path(config.output).exists():
        raise InputError(f"{config.output} exists; choose another output.")


def load(config: AnalyzeConfig) -> tuple[GPT2LMHeadModel, GPT2LMHeadModel | None]:
    """The model and its reference. Raises InputError if they do not belong together, or have too few positions for N + 1."""
    model = load_on_device(config.model)
    digits = model.config.trained_digits
    check_positions(task_of(model), model.config.n_positions, digits + 1)
    if config.reference is None:
        return model, None
    reference = load_on_device(config.reference)
    check_reference(config.model, model, config.reference, reference)
    check_positions(task_of(reference), reference.config.n_positions, digits + 1)
    return model, reference


def _member(config: AnalyzeConfig, name: str, model: GPT2LMHeadModel) -> GPT2LMHeadModel:
    """A further model of the ensemble. Raises InputError where it is another kind of model, or the same again."""
    member = load_on_device(name)
    check_reference(config.model, model, name, member)
    if fingerprint(member) == fingerprint(model):
        raise InputError(f"ensemble: {name} is {config.model} itself; give models that were trained from other seeds.")
    return member


def analyze(config: AnalyzeConfig, progress: bool = True) -> dict[str, Any]:
    """Analyze a model.

    Returns:
        `drift` on N and N + 1 digits, null without a reference; `detection` (`rlkl.analysis.detection.detect`);
        `counterfactual`, rows by group and all places; and the settings and versions.
    """
    check(config)
    model, reference = load(config)
    ensemble = [_member(config, name, model) for name in config.ensemble]
    if config.output is not None:
        make_folder(Path(config.output))
    trained = model.config.trained_digits
    longer = sample(task_of(model), config.operands, trained + 1, config.examples, config.seed)
    with tqdm(total=len(longer), desc="answers", unit="", disable=not progress, leave=False) as bar:
        texts = complete(model, longer, advance=bar.update)
    temperature = _temperature(model, config)
    result = {
        "model": config.model,
        "fingerprint": fingerprint(model),
        "reference": config.reference,
        "reference_fingerprint": None if reference is None else fingerprint(reference),
        "ensemble": config.ensemble,
        "ensemble_fingerprints": [fingerprint(member) for member in ensemble],
        "fitted_temperature": temperature,
        "task": task_of(model).NAME,
        "trained_digits": trained,
        "operands": config.operands,
        "examples": config.examples,
        "problems": config.problems,
        "samples": config.samples,
        "temperature": config.temperature,
        "seed": config.seed,
        "drift": None
        if reference is None
        else drift_by_digits(model, reference, [trained, trained + 1], config.operands, config.examples, config.seed),
        "detection": detect(model, longer, texts, trained, temperature=temperature, ensemble=ensemble),
        "counterfactual": _counterfactual(model, config, progress),
        "git_commit": git_commit(),
        "versions": versions(),
    }
    return result


def _temperature(model: GPT2LMHeadModel, config: AnalyzeConfig) -> float | None:
    """The temperature fitted on other problems with N + 1 digits; None, with a warning, where none fits."""
    others = sample(task_of(model), config.operands, model.config.trained_digits + 1, config.examples, config.seed + 1)
    try:
        return heldout_temperature(model, others)
    except InputError as error:
        log.warning("no certainty at a fitted temperature: %s", error)
        return None


def _counterfactual(model: GPT2LMHeadModel, config: AnalyzeConfig, progress: bool) -> dict[str, Any]:
    trained = model.config.trained_digits
    operands = sample(task_of(model), config.operands, trained + 1, config.problems, config.seed)
    places = sample_places(model, operands, trained, Random(config.seed))
    with tqdm(total=2 * config.samples * len(places), desc="continuations", unit="", disable=not progress, leave=False) as bar:
        outcomes = counterfactuals(
            model,
            operands,
            places,
            samples=config.samples,
            temperature=config.temperature,
            seed=config.seed,
            advance=bar.update,
        )
    return {"groups": group_rows(outcomes), "places": [_place_row(task_of(model), operands, outcome) for outcome in outcomes]}


def group_rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A row for each group of places.

    Returns:
        The numbers of `places` and `problems`; the mean of `right`, `wrong`, `importance` and `probability` over problems, with
        bootstrap intervals over problems; and `lost`, the share of right answers that the wrong character costs, null if there
        are none after the right character.
    """
    rows = []
    for group, means in mean_by_problem(outcomes).items():
        intervals = {name: bootstrap(values) for name, values in means.items()}
        right, wrong = intervals["right"].mean, intervals["wrong"].mean
        rows.append(
            {
                "group": group,
                "places": sum(outcome.place.group == group for outcome in outcomes),
                "problems": len(means["right"]),
                "lost": (right - wrong) / right if right > 0 else None,
                **{
                    name: {"mean": interval.mean, "low": interval.low, "high": interval.high}
                    for name, interval in intervals.items()
                },
            }
        )
    return rows


def _place_row(task: Task, operands: Sequence[Operands], outcome: Outcome) -> dict[str, Any]:
    pair = operands[outcome.place.row]
    piece = piece_at(task, pair, outcome.place.position)
    problem = {"first": pair.first, "second": pair.second, "step": piece.step, "field": piece.field}
    return outcome.place._asdict() | problem | {key: value for key, value in outcome._asdict().items() if key != "place"}


def summary(result: dict[str, Any]) -> str:
    """The result as text for a terminal."""
    beyond, kind = f"{result['trained_digits'] + 1} digits", task_named(result["task"]).PLURAL
    width = max((len(name) for found in result["detection"].values() for name in found), default=0)
    head = f"found by 1 - certainty on {beyond} ({result['examples']} {kind})"
    lines = [f"{head:{width + 34}} base rate      AP  R-precision"]
    for question, title in QUESTIONS.items():
        for name, found in result["detection"].get(question, {}).items():
            scores = f"{found['base_rate']:9.4f} {found['average_precision']:7.3f} {found['r_precision']:8.3f}"
            lines.append(f"  {title:31} {name:{width}} {scores}")
    if result["fitted_temperature"] is not None:
        lines.append(f"  the fitted temperature is {result['fitted_temperature']:.3f}")
    lines += _counterfactual_lines(result, f"{beyond} ({result['problems']} {kind})")
    for name, moved in (result["drift"] or {}).items():
        lines.append(
            f"drift from {result['reference']} on {name} digits: KL per character, share of likeliest characters changed"
        )
        for field, scores in {"all": moved, **moved["fields"]}.items():
            lines.append(f"  {field:14} {scores['kl']:9.2e} {scores['changed']:8.4f}")
    return "\n".join(lines)


def _counterfactual_lines(result: dict[str, Any], longer: str) -> list[str]:
    lines = [
        f"right answers after the right and the wrong character, on {longer}",
        f"  {'':14} {'places':>6} {'right':>7} {'wrong':>7}   {'difference (95% interval)':27}   lost",
    ]
    for row in result["counterfactual"]["groups"]:
        importance = row["importance"]
        gain = f"{importance['mean']:+.3f} ({importance['low']:+.3f} to {importance['high']:+.3f})"
        lost = "-" if row["lost"] is None else f"{row['lost']:.0%}"
        means = f"{row['right']['mean']:7.3f} {row['wrong']['mean']:7.3f}"
        lines.append(f"  {row['group']:14} {row['places']:6} {means}   {gain:27} {lost:>6}")
    return lines


def task(config: DictConfig) -> None:
    """rlkl-analyze."""
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, AnalyzeConfig)
    result = analyze(typed)
    print_result(summary(result))
    if typed.output is not None:
        folder = Path(typed.output)
        result["command"] = shlex.join(["rlkl-analyze", *sys.argv[1:]])
        write_json(folder / ANALYSIS, result)
        report = write_analysis_report(folder, result)
        print_result(f"\nreport: {report}")
