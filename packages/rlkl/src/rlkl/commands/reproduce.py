"""make reproduce-rl: evaluate a pre-trained model, fine-tune it by several methods with every seed, and write a report.

    rlkl-reproduce
    rlkl-reproduce seeds=[0,1,2,3,4,5,6,7,8] algorithm.iterations=40 jobs=8
    rlkl-reproduce hydra/launcher=submitit_slurm             on a cluster

Finished runs are not run again, and a killed one continues, so the same command can be given until it ends.
"""

if __name__ == "__main__":  # before what takes seconds to import
    from rlkl.commands import scripts

    scripts.reproduce()


import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from transformers import GPT2LMHeadModel

from rlkl.analysis.drift import drift_by_digits
from rlkl.commands.config import EvaluateConfig, FinetuneConfig, ReproduceConfig
from rlkl.commands.evaluate import Setting, evaluate_setting, gather, row_directory, settings
from rlkl.commands.finetune import check, check_models, finetune, identity, metrics_of, settings_of
from rlkl.model.language_model import fingerprint, load_on_device, packaged_models
from rlkl.report.reproduction import draw
from rlkl_htc_common.cli.grammar import as_config
from rlkl_htc_common.commands import grid
from rlkl_htc_common.commands.application import print_result
from rlkl_htc_common.commands.grid import Method
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.report.run_list import GRID
from rlkl_htc_common.runs.commands import commands_of, given_overrides
from rlkl_htc_common.runs.directory import make_folder, read_json, write_json
from rlkl_htc_common.runs.sweeps import Record
from rlkl_htc_common.training.trainer import warn_without_gpu


def check_grid(config: ReproduceConfig, given: Sequence[str]) -> None:
    """Refuse an empty grid, one that names a run twice, and comparisons of methods that are not there. Raises InputError."""
    if not config.seeds or not (config.methods or config.models):
        raise InputError("seeds and methods must each hold at least one entry; methods may be empty where models are given.")
    if len(set(config.seeds)) < len(config.seeds):
        raise InputError("seeds must hold each seed only once.")
    names = list(config.methods)
    unknown = {name for pair in config.compare or [] for name in pair} - set(names)
    if unknown or any(len(pair) != 2 for pair in config.compare or []):
        raise InputError(f"compare must hold pairs of methods, of {', '.join(names)}; it is {config.compare}.")
    if config.steps is not None and (len(set(config.steps)) < 2 or set(config.steps) - set(names)):
        raise InputError(f"steps must hold two methods or more, of {', '.join(names)}; it is {config.steps}.")
    pools = list((config.pools or {}).values())
    if {name for pool in pools for name in pool} - set(names) or len(set(map(len, pools))) > 1 or [] in pools:
        raise InputError(f"pools must hold as many methods each, of {', '.join(names)}; it is {config.pools}.")
    _check_conditions(config.conditions, names)
    misplaced = [key for settings in config.methods.values() for key in settings or {} if key in ("seed", "run_dir")]
    if misplaced or {override.partition("=")[0].lstrip("+~") for override in given} & {"seed", "run_dir"}:
        raise InputError("a reproduction takes seeds=[...], and neither seed nor run_dir.")


def _check_conditions(conditions: Mapping[str, Mapping[str, Sequence[str]]], names: Sequence[str]) -> None:
    if not conditions:
        return
    kinds = {tuple(of_condition) for of_condition in conditions.values()}
    groups = [group for of_condition in conditions.values() for group in of_condition.values()]
    if len(kinds) > 1 or len(next(iter(kinds))) != 2 or [] in groups or {name for group in groups for name in group} - {*names}:
        raise InputError(
            f"conditions must each hold the same two kinds of methods, of {', '.join(names)}; it is {dict(conditions)}."
        )


def run_of(config: DictConfig) -> FinetuneConfig:
    """The fine-tuning that a reproduction's config asks for, of one method and seed."""
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, ReproduceConfig)
    return FinetuneConfig(**{field.name: getattr(typed, field.name) for field in fields(FinetuneConfig)})


def check_runs(config: ReproduceConfig, runs: Mapping[str, FinetuneConfig]) -> None:
    """Refuse runs that could only fail later, and methods that do not differ. Raises InputError."""
    for run in runs.values():
        check(run)
    small = sorted({*config.models, *(run.model for run in runs.values())} & {*packaged_models()})
    if config.suffix and small:
        raise InputError(
            f"{', '.join(small)}: small models that come with the package, and not for profile=paper; there may be another "
            "experiment for it, such as experiment=levels_paper."
        )
    effects = {name: identity(run, *settings_of(run)) for name, run in runs.items()}
    same = [f"{a} and {b}" for a, b in combinations(effects, 2) if effects[a] == effects[b]]
    if same:
        raise InputError(f"methods: {same[0]} do not differ.")


def reproduce(config: ReproduceConfig, command: str) -> Path:
    """Evaluate, run the grid and write `report.html`, `summary.json`, `table.md` and figures. Returns: the report."""
    started = time.monotonic()
    check_grid(config, given_overrides())
    methods = grid.compose_methods("reproduce", {name: settings or {} for name, settings in config.methods.items()})
    runs = {method.name: run_of(method.config) for method in methods}
    check_runs(config, runs)
    axis = axis_of(config.axis, runs)
    if config.suffix:
        takes = f"hours to days for each of {len(runs) * len(config.seeds)} fine-tunings"
        warn_without_gpu(f"profile={config.suffix.strip('-')}", takes, "profile=embedded takes minutes")
    before = dict.fromkeys([*(run.model for run in runs.values()), *config.models])
    models = {name: load_on_device(name) for name in [*before, *{run.anchor for run in runs.values()} - {*before}]}
    for run in runs.values():
        check_models(run, models[run.model], models[run.anchor])
    output = Path(config.output)
    make_folder(output)
    starts = {name: evaluation_before(config, models[name], name) for name in before}
    jobs = [(method, seed) for seed in config.seeds for method in methods]
    overrides = [[*method.overrides, f"seed={seed}"] for method, seed in jobs]
    records = grid.launch(job, "reproduce", overrides, output / "jobs", "fine-tuning runs", config.jobs)
    summary = {
        "title": config.title,
        "command": command,
        "starts": starts,
        "compare": config.compare or [[next(iter(runs)), other] for other in list(runs)[1:]],
        "steps": config.steps,
        "pools": config.pools,
        "conditions": config.conditions or None,
        "axis": axis,
        "runs": _runs(jobs, runs, records),
        "wall_seconds": round(time.monotonic() - started, 1),
    }
    write_json(output / GRID, {"package": "rlkl", **summary})
    return draw(output)


def _runs(
    jobs: Sequence[tuple[Method, int]], runs: Mapping[str, FinetuneConfig], records: Sequence[Record]
) -> list[dict[str, Any]]:
    """Of each run: its method and seed, its folder and metrics, and the command that runs it again."""
    configs = [replace(runs[method.name], seed=seed) for method, seed in jobs]
    commands = commands_of("rlkl-finetune", "finetune", configs, [method.choices for method, _ in jobs])
    return [
        {"method": method.name, "seed": seed, "command": command, **{key: record[key] for key in ("run_dir", "metrics")}}
        for (method, seed), record, command in zip(jobs, records, commands, strict=True)
    ]


def axis_of(key: str | None, runs: Mapping[str, FinetuneConfig]) -> dict[str, Any] | None:
    """The key that the report draws results against, and its lines: by the first one's name, the values of methods that differ
    in nothing else. Methods without the key (no KL has no alpha) are left out.

    Raises:
        InputError: where it has no numbers for values or there is no line.
    """
    if key is None:
        return None
    configs = {name: as_config(run) for name, run in runs.items()}
    values = {name: OmegaConf.select(config, key, throw_on_missing=True, default=None) for name, config in configs.items()}
    values = {name: value for name, value in values.items() if value is not None}
    if not values or not all(isinstance(value, (int, float)) for value in values.values()):
        raise InputError(f"axis must be a key whose values are numbers, such as penalty.beta; {key} gives {values}.")
    lines: dict[str, dict[str, float]] = {}
    for name, value in values.items():
        alike = (line for line in lines if _differ_only_in(key, configs[line], configs[name]))
        lines.setdefault(next(alike, name), {})[name] = value
    lines = {line: methods for line, methods in lines.items() if len(methods) > 1}
    if not lines:
        raise InputError(f"axis: no two methods differ in {key} and in nothing else.")
    return {"key": key, "lines": lines}


def _differ_only_in(key: str, one: DictConfig, other: DictConfig) -> bool:
    changed = one.copy()
    OmegaConf.update(changed, key, OmegaConf.select(other, key))
    return bool(changed == other)


def evaluation_before(config: ReproduceConfig, model: GPT2LMHeadModel, name: str) -> dict[str, Any]:
    """How well a model that runs start from does before."""
    evaluated = {"model": name, "examples": config.examples, "show": 3}
    (whole,) = grid.compose_methods("evaluate", {"evaluation": evaluated}, given=[])
    evaluation = OmegaConf.to_object(whole.config)
    assert isinstance(evaluation, EvaluateConfig)
    rows = settings(evaluation, model)
    missing = [setting for setting in rows if row_directory(model, evaluation, setting, config.runs).result() is None]
    only = [{"operands": [setting.operands], "digits": [setting.digits]} for setting in missing]
    overrides = [[*whole.overrides, *grid.as_overrides(each)] for each in only]
    folder = Path(config.output) / "before" / fingerprint(model)
    grid.launch(partial(evaluate_job, config.runs), "evaluate", overrides, folder, "evaluation before", config.jobs)
    return gather(model, evaluation, [evaluate_setting(model, evaluation, setting, config.runs) for setting in rows])


def evaluate_job(runs: str, config: DictConfig) -> None:
    """One row of an evaluation. Args: config: `EvaluateConfig`'s, with one kind of operands and one number of digits."""
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, EvaluateConfig)
    assert typed.digits is not None
    evaluate_setting(load_on_device(typed.model), typed, Setting(typed.operands[0], typed.digits[0]), runs)


def job(config: DictConfig) -> dict[str, Any]:
    """One fine-tuning of the grid. Returns: what its record holds."""
    result = finetune(run_of(config), progress=False)
    drift_of(result)
    metrics = metrics_of(result)
    return {"run_dir": result["run_dir"], "metrics": metrics, "score": metrics["accuracy_longer"]}


def drift_of(result: dict[str, Any]) -> dict[str, Any]:
    """How far a finished run's policy is from its reference; kept beside the run, to be measured once for its iterations."""
    file = Path(result["run_dir"]) / f"drift-{result['history'][-1]['step']}.json"
    if not file.exists():
        policy, reference = load_on_device(str(file.parent / "model")), load_on_device(result["reference"])
        write_json(file, drift_by_digits(policy, reference, [result["trained_digits"], result["digits"]]))
    return read_json(file, "remove it to have the drift measured again")


def task(config: DictConfig) -> None:
    """rlkl-reproduce."""
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, ReproduceConfig)
    report = reproduce(typed, shlex.join(["rlkl-reproduce", *sys.argv[1:]]))
    print_result((report.parent / "table.md").read_text(encoding="utf-8") + f"\nreport: {report}")
