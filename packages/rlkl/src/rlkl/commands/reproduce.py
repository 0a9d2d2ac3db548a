"""make reproduce-rl: evaluate a pre-trained model, fine-tune it by several methods with every seed, and write a report.

    rlkl-reproduce
    rlkl-reproduce seeds=[0,1,2,3,4,5,6,7,8] algorithm.iterations=40 jobs=8

Finished runs are not run again, and a killed one continues, so the same command can be given until it ends.
"""

if __name__ == "__main__":  # before what takes seconds to import
    from rlkl_htc_common.cli.entry import begin

    begin("rlkl")


import shlex
import sys
import time
from dataclasses import fields, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from transformers import GPT2LMHeadModel

from rlkl.analysis.drift import drift_by_digits
from rlkl.commands.config import EvaluateConfig, FinetuneConfig, ReproduceConfig, register
from rlkl.commands.evaluate import evaluate_setting, gather, settings
from rlkl.commands.finetune import check, check_models, finetune, metrics_of
from rlkl.model.language_model import load_on_device, packaged_models
from rlkl.report.reproduction import summarize, write_rl_report
from rlkl.report.start import Start
from rlkl_htc_common.cli.application import print_result, run_application
from rlkl_htc_common.cli.grammar import as_config, meaning_itself
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.report.run_list import list_runs
from rlkl_htc_common.runs.commands import commands_of
from rlkl_htc_common.runs.directory import make_folder, read_json, write_json
from rlkl_htc_common.runs.parallel import number_of_jobs, run_all
from rlkl_htc_common.training.trainer import warn_without_gpu


def grid(config: ReproduceConfig) -> list[FinetuneConfig]:
    """The fine-tuning runs that a reproduction consists of.

    Raises:
        InputError: for an empty grid, or one that names a run twice.
    """
    if not config.seeds or not (config.methods or config.models):
        raise InputError("seeds and methods must each hold at least one entry; methods may be empty where models are given.")
    if len(set(config.seeds)) < len(config.seeds):
        raise InputError("seeds must hold each seed only once.")
    names = names_of(config)
    unknown = {name for pair in config.compare or [] for name in pair} - set(names)
    if unknown or any(len(pair) != 2 for pair in config.compare or []):
        raise InputError(f"compare must hold pairs of methods, of {', '.join(names)}; it is {config.compare}.")
    if config.steps is not None and (len(set(config.steps)) < 2 or set(config.steps) - set(names)):
        raise InputError(f"steps must hold two methods or more, of {', '.join(names)}; it is {config.steps}.")
    pools = list((config.pools or {}).values())
    if {name for pool in pools for name in pool} - set(names) or len(set(map(len, pools))) > 1 or [] in pools:
        raise InputError(f"pools must hold as many methods each, of {', '.join(names)}; it is {config.pools}.")
    if config.run_dir is not None or config.seed != FinetuneConfig.seed:
        raise InputError("a reproduction takes seeds=[...], and neither seed nor run_dir.")
    shared = FinetuneConfig(**{field.name: getattr(config, field.name) for field in fields(FinetuneConfig)})
    methods = [_changed(shared, method) for method in config.methods]
    small = sorted({*config.models, *(method.model for method in methods)} & {*packaged_models()})
    if config.size and small:
        raise InputError(
            f"{', '.join(small)}: small models that come with the package, and not for profile=paper; there may be another "
            "experiment for it, such as experiment=levels_paper."
        )
    same = [f"{a} and {b}" for (a, one), (b, other) in combinations(zip(names, methods, strict=True), 2) if one == other]
    if same:
        raise InputError(f"methods: {same[0]} do not differ.")
    return [replace(method, seed=seed) for seed in config.seeds for method in methods]


def names_of(config: ReproduceConfig) -> list[str]:
    """What the methods are called. Raises InputError where one has no name of its own."""
    names = [str(method.get("name") or "") for method in config.methods]
    if not all(names) or len(set(names)) < len(names):
        raise InputError("methods: each must have a `name` of its own.")
    return names


def _changed(config: FinetuneConfig, method: dict[str, Any]) -> FinetuneConfig:
    """The config as a method changes it. Raises InputError for keys and values that it cannot have."""
    change = {key: value for key, value in method.items() if key != "name"}
    if "seed" in change or "run_dir" in change:
        raise InputError(f"methods: {method['name']} must have neither seed nor run_dir.")
    try:
        changed = OmegaConf.to_object(OmegaConf.merge(as_config(config), meaning_itself(change)))
    except OmegaConfBaseException as error:
        raise InputError(f"methods: {method['name']}: {str(error).splitlines()[0]}") from error
    assert isinstance(changed, FinetuneConfig)
    return changed


def reproduce(config: ReproduceConfig, command: str) -> Path:
    """Evaluate, run the grid and write `report.html`, `summary.json`, `table.md` and figures. Returns: the report."""
    started = time.monotonic()
    jobs = number_of_jobs(config.jobs)
    runs = grid(config)
    axis = axis_of(config, runs)
    if config.size:
        takes = f"hours to days for each of {len(runs)} fine-tunings"
        warn_without_gpu(f"profile={config.size.strip('-')}", takes, "profile=embedded takes minutes")
    for run in runs:
        check(run)
    before = dict.fromkeys([*(run.model for run in runs), *config.models])
    models = {name: load_on_device(name) for name in [*before, *{run.anchor for run in runs} - {*before}]}
    for run in runs:
        check_models(run, models[run.model], models[run.anchor])
    output = Path(config.output)
    make_folder(output)
    starts = {name: evaluation_before(config, name, models[name], jobs) for name in before}
    results = run_all(partial(finetune, progress=False), runs, jobs, "fine-tuning runs")
    drifts = run_all(drift_of, results, jobs, "drift")
    summary = summarize(starts, names_of(config), [result | {"drift": d} for result, d in zip(results, drifts, strict=True)])
    summary["compare"] = config.compare or [[names_of(config)[0], other] for other in names_of(config)[1:]]
    summary |= {"axis": axis, "steps": config.steps, "pools": config.pools}
    commands = commands_of("rlkl-finetune", "finetune", runs)
    names = [name for _ in config.seeds for name in names_of(config)]
    summary["runs"] = list_runs(names, runs, [metrics_of(r) for r in results], commands, [r["run_dir"] for r in results])
    summary["wall_seconds"] = round(time.monotonic() - started, 1)
    write_json(output / "summary.json", summary)
    return write_rl_report(output, config.title, summary, command)


def axis_of(config: ReproduceConfig, runs: list[FinetuneConfig]) -> dict[str, Any] | None:
    """The key that the report draws results against, and its lines: by the first one's name, the values of methods that differ
    in nothing else. Raises InputError where it has no values or there is no line.
    """
    if config.axis is None:
        return None
    of_methods = dict(zip(names_of(config), runs, strict=False))  # the runs of the first seed
    values = {name: OmegaConf.select(as_config(run), config.axis) for name, run in of_methods.items()}
    if not all(isinstance(value, (int, float)) for value in values.values()):
        raise InputError(f"axis must be a key whose values are numbers, such as penalty.beta; {config.axis} gives {values}.")
    lines: dict[str, dict[str, float]] = {}
    for name, run in of_methods.items():
        alike = (line for line in lines if _differ_only_in(config.axis, of_methods[line], run))
        lines.setdefault(next(alike, name), {})[name] = values[name]
    lines = {line: methods for line, methods in lines.items() if len(methods) > 1}
    if not lines:
        raise InputError(f"axis: no two methods differ in {config.axis} and in nothing else.")
    return {"key": config.axis, "lines": lines}


def _differ_only_in(key: str, one: FinetuneConfig, other: FinetuneConfig) -> bool:
    changed = as_config(one)
    OmegaConf.update(changed, key, OmegaConf.select(as_config(other), key))
    return bool(changed == as_config(other))


def evaluation_before(config: ReproduceConfig, name: str, model: GPT2LMHeadModel, jobs: int) -> Start:
    """How well a model that runs start from does before."""
    evaluation = EvaluateConfig(model=name, examples=config.examples, show=3)
    rows = run_all(partial(evaluate_setting, evaluation, config.runs), settings(evaluation, model), jobs, "evaluation before")
    return gather(model, evaluation, rows)


def drift_of(result: dict[str, Any]) -> dict[str, Any]:
    """How far a finished run's policy is from its reference; kept beside the run, to be measured once for its iterations."""
    file = Path(result["run_dir"]) / f"drift-{result['history'][-1]['step']}.json"
    if not file.exists():
        policy, reference = load_on_device(str(file.parent / "model")), load_on_device(result["reference"])
        write_json(file, drift_by_digits(policy, reference, [result["trained_digits"], result["digits"]]))
    return read_json(file, "remove it to have the drift measured again")


def _task(config: DictConfig) -> None:
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, ReproduceConfig)
    report = reproduce(typed, shlex.join(["python", "-m", "rlkl.commands.reproduce", *sys.argv[1:]]))
    print_result((report.parent / "table.md").read_text(encoding="utf-8") + f"\nreport: {report}")


def main() -> None:
    """The entry point."""
    register()
    run_application(_task, application="rlkl", config="reproduce", schema=ReproduceConfig)


if __name__ == "__main__":
    main()
