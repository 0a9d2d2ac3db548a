"""make reproduce-htc: train every method with every seed, apply every inference rule, and write a report.

    htc-reproduce                                           experiment=icd10cm, from conf/htc/experiment
    htc-reproduce experiment=hwv dataset.dir=path/to/hwv
    htc-reproduce seeds=[0,1,2,3,4] jobs=8
    htc-reproduce hydra/launcher=submitit_slurm             on a cluster

Finished runs are not run again, and a killed one continues, so the same command can be given until it ends.
"""

if __name__ == "__main__":  # before what takes seconds to import
    from htc.commands import scripts

    scripts.reproduce()


import logging
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from omegaconf import DictConfig, OmegaConf
from safetensors import SafetensorError
from safetensors.numpy import load_file

from htc.commands.train import PER_DOCUMENT, check, check_select, check_targets, headline, train, warn_if_slow
from htc.datasets import Dataset
from htc.experiment.build import load_dataset, make_objective
from htc.experiment.config import DatasetConfig, DrawnConfig, ReproduceConfig, TrainConfig, train_config
from htc.experiment.identity import identity_of, plainest_config
from htc.experiment.inputs import VectorInputs
from htc.experiment.saved_model import load_model
from htc.report.against import load_other
from htc.report.comparison import Documents, best_two_by_rule
from htc.report.comparison_figures import rules_by_objective, rules_heat_map
from htc.report.errors_section import look_at
from htc.report.labels import MAIN_RULES, label
from htc.report.records import Errors, Facts, Summary, Tried
from htc.report.reproduction import summarize, write_htc_report
from htc.settings import AUTO
from rlkl_htc_common.commands import grid
from rlkl_htc_common.commands.application import print_result
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.models.encoders import cached_features, load_encoder
from rlkl_htc_common.report.records import read_record
from rlkl_htc_common.report.run_list import GRID, list_runs
from rlkl_htc_common.runs.commands import commands_of, given_overrides
from rlkl_htc_common.runs.directory import make_folder, read_config, read_json, write_json
from rlkl_htc_common.runs.tracking import Mirror

log = logging.getLogger(__name__)

Methods = Mapping[str, dict[str, Any]]
"""Name -> what is set for it."""
ADVICE = "remove it, and give the command of the reproduction again"


def run_of(config: DictConfig) -> TrainConfig:
    """The training that a reproduction's config asks for, of one method and seed."""
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, ReproduceConfig)
    run = TrainConfig(**{field.name: getattr(typed, field.name) for field in fields(TrainConfig)})
    return replace(run, dataset=_dataset(typed, run.seed))


def _dataset(config: ReproduceConfig, seed: int) -> DatasetConfig:
    if not config.split_per_seed:
        return config.dataset
    if not isinstance(config.dataset, DrawnConfig):
        raise InputError(f"split_per_seed: the splits of {config.dataset.name} are the official ones; set it to false.")
    return replace(config.dataset, split_seed=seed)


def check_grid(config: ReproduceConfig, given: Sequence[str]) -> None:
    """Refuse an empty grid, one that names a run twice, and methods that set what all have in common. Raises InputError."""
    if not config.methods or not config.seeds:
        raise InputError("methods and seeds must each hold at least one entry.")
    if len(set(config.seeds)) < len(config.seeds):
        raise InputError("seeds must hold an entry only once.")
    if {override.partition("=")[0].lstrip("+~") for override in given} & {"seed", "run_dir"}:
        raise InputError("a reproduction takes seeds=[...], and neither seed nor run_dir.")
    known = {field.name for field in fields(TrainConfig)} - {"dataset", "seed", "run_dir"}
    given_settings = {f"methods: {name}": settings for name, settings in config.methods.items()}
    given_settings |= {f"tries: number {number}": settings for number, settings in enumerate(config.tries, start=1)}
    for name, settings in given_settings.items():
        for key in settings:
            if key.split(".")[0] not in known:
                raise InputError(f"{name} cannot set {key}; it can set {', '.join(sorted(known))}, and keys of these.")


def check_different(runs: Mapping[str, TrainConfig]) -> None:
    """Refuse methods that come to the same, and what no run can have. Raises InputError."""
    for run in runs.values():
        check(run)
    plain = {name: plainest_config(run) for name, run in runs.items()}
    plain = {name: run for name, run in plain.items() if run.loss.name != AUTO}
    for (one, first), (other, second) in combinations(plain.items(), 2):
        if identity_of(first) == identity_of(second):
            raise InputError(f"methods: {one} and {other} do not differ.")


_in_memory: dict[tuple[str, str], Dataset] = {}  # the documents that this process read last


def read_once(reproduction: str, run: TrainConfig) -> Dataset:
    """Load the dataset of a run, unless the last run of the reproduction that this process made had the same.

    Args: reproduction: names one call of `reproduce`: files may have changed before the next.
    """
    key = (reproduction, repr(run.dataset))
    if key not in _in_memory:
        _in_memory.clear()
        _in_memory[key] = load_dataset(run.dataset, None, run.cache_dir)
    return _in_memory[key]


def prepare(runs: list[TrainConfig], reproduction: str) -> Dataset:
    """Refuse what would fail in every run, and compute the features that all runs share, before any run is started.

    Args: reproduction: see `read_once`.

    Returns:
        The documents of the first run.
    """
    dataset = read_once(reproduction, runs[0])
    log.info("%s", dataset.describe())
    for run in map(plainest_config, runs):
        objective = make_objective(run.loss, dataset.hierarchy, None)
        check_targets(objective, dataset)
        check_select(run, objective)
    if runs[0].encoder.frozen:
        encoder = load_encoder(runs[0].encoder)
        cached_features(encoder, dataset.texts, runs[0].cache_dir, runs[0].encoder.batch_size)
    return dataset


def reproduce(config: ReproduceConfig, command: str) -> Path:
    """Run the grid and write `report.html`, `summary.json`, `table.md` and figures; wandb gets the main table.

    Args: command: that the report names. Returns: the report.
    """
    started, reproduction = time.monotonic(), uuid4().hex
    check_grid(config, given_overrides())
    _, runs = compose(config.methods)
    compose({name: settings for name, (_, settings) in tries_of(config).items()})
    output = Path(config.output)
    make_folder(output)
    configs = [_with_seed(config, run, seed) for seed in config.seeds for run in runs.values()]
    warn_if_slow(configs[0], len(configs) + len(tries_of(config)))
    dataset = prepare(configs, reproduction)
    if config.against is not None:
        load_other(config.against, read_record(Facts, dataset.facts(), dataset.name), list(runs), config.seeds)
    tries, chosen = try_out(config, output / "tries", reproduction)
    methods, runs = compose(chosen)
    jobs = [(method, seed) for seed in config.seeds for method in methods]
    configs = [_with_seed(config, runs[method.name], seed) for method, seed in jobs]
    overrides = [[*method.overrides, f"seed={seed}"] for method, seed in jobs]
    records = grid.launch(partial(job, reproduction), "reproduce", overrides, output / "jobs", "training runs", config.jobs)
    commands = commands_of("htc-train", "train", configs, [method.choices for method, _ in jobs])
    left = {
        "package": "htc",
        "title": config.title,
        "command": command,
        "against": config.against,
        "tries": [asdict(each) for each in tries],
        "runs": [
            {"method": method.name, "run_dir": record["run_dir"], "command": told, "config": asdict(run)}
            for (method, _), record, told, run in zip(jobs, records, commands, configs, strict=True)
        ],
        "dataset": type(config.dataset).__name__,
        "wall_seconds": round(time.monotonic() - started, 1),
    }
    write_json(output / GRID, left)
    report = draw(output)
    mirror(config, output)
    return report


def mirror(config: ReproduceConfig, output: Path) -> None:
    """Give wandb the scores of the report's first table, as a table and as a heat map; a run of its own."""
    with Mirror(output, asdict(config), config.tracking, job_type="reproduce", name=f"{output.name}-report") as run:
        if run.mirrors:
            losses = Summary.load(output, ADVICE).losses
            columns, rows = rules_by_objective(losses, "hf1_micro")
            run.table("test/rules_by_objective_table", columns, rows)
            run.page("test/rules_by_objective", rules_heat_map(losses, "hf1_micro").file)


def compose(methods: Methods) -> tuple[list[grid.Method], dict[str, TrainConfig]]:
    """The configs of methods, and the training that each asks for. Raises InputError where two come to the same."""
    composed = grid.compose_methods("reproduce", methods)
    runs = {method.name: run_of(method.config) for method in composed}
    check_different(runs)
    return composed, runs


def tries_of(config: ReproduceConfig) -> dict[str, tuple[str, dict[str, Any]]]:
    """What is to be tried: the name of each try, its method, and its settings."""
    return {
        f"{name}, try {number}": (name, settings | each)
        for number, each in enumerate(config.tries, start=1)
        for name, settings in config.methods.items()
    }


def try_out(config: ReproduceConfig, folder: Path, reproduction: str) -> tuple[list[Tried], Methods]:
    """Train each method with each of the tries and the first seed.

    Args: folder: for records and logs; reproduction: see `read_once`.

    Returns:
        The tries, and the methods with the settings that are best by HF1-AUC on dev; as they are where nothing is to be tried.
    """
    planned = tries_of(config)
    methods, _ = compose({name: settings for name, (_, settings) in planned.items()})
    overrides = [[*method.overrides, f"seed={config.seeds[0]}"] for method in methods]
    records = grid.launch(partial(job, reproduction), "reproduce", overrides, folder, "tries", config.jobs)
    scores = {name: record["score"] for name, record in zip(planned, records, strict=True)}
    best = {
        method: max((name for name, (of, _) in planned.items() if of == method), key=lambda name: scores[name], default=None)
        for method in config.methods
    }
    tries = [
        Tried(method, " ".join(grid.as_overrides(settings)), scores[name], name == best[method])
        for name, (method, settings) in planned.items()
    ]
    chosen = {method: config.methods[method] if name is None else planned[name][1] for method, name in best.items()}
    return tries, chosen


def _with_seed(config: ReproduceConfig, run: TrainConfig, seed: int) -> TrainConfig:
    return replace(run, seed=seed, dataset=_dataset(config, seed))


def job(reproduction: str, config: DictConfig) -> dict[str, Any]:
    """One training of the grid. Args: reproduction: see `read_once`. Returns: what its record holds."""
    run = run_of(config)
    result = train(run, progress=False, dataset=read_once(reproduction, run))
    return {"run_dir": result["run_dir"], "metrics": headline(result["test"]), "score": result["dev"]["hf1_auc"]}


def draw(folder: Path) -> Path:
    """Draw the report of a reproduction from its run directories, into its folder. Returns: the report.

    Raises:
        InputError: where a part of it is missing or damaged.
    """
    left = read_json(folder / GRID, ADVICE)
    runs = [train_config(run["config"], left["dataset"]) for run in left["runs"]]
    results = [
        read_json(Path(run["run_dir"]) / "result.json", ADVICE) | {"method": run["method"], "run_dir": run["run_dir"]}
        for run in left["runs"]
    ]
    documents = documents_of(runs, results)
    names, commands, folders = ([run[key] for run in left["runs"]] for key in ("method", "command", "run_dir"))
    configs, metrics = [read_config(Path(folder)) for folder in folders], [headline(result["test"]) for result in results]
    summary = read_record(Summary, {**left, **summarize(results), "runs": []}, "the results")
    summary = replace(
        summary,
        runs=list_runs(list(map(label, names)), configs, metrics, commands, folders),
        best_two=None if documents is None else best_two_by_rule(documents, MAIN_RULES),
        errors=errors_of(runs, results),
    )
    summary.save(folder)
    return write_htc_report(folder, summary)


def documents_of(runs: list[TrainConfig], results: list[dict[str, Any]]) -> Documents | None:
    """The scores of each run's test documents, by method, and which documents these are."""
    found: dict[str, list[dict[str, np.ndarray]]] = {}
    for result in results:
        file = Path(result["run_dir"]) / PER_DOCUMENT
        if not file.exists():
            log.warning(
                "%s is missing, so that the report has no intervals over documents; remove the run to run it again", file
            )
            return None
        try:
            found.setdefault(result["method"], []).append(load_file(file))
        except (OSError, ValueError, SafetensorError) as error:
            raise InputError(f"{file} is damaged ({error}); remove the run to run it again.") from error
    first = next(iter(found))
    datasets = [run.dataset for run, result in zip(runs, results, strict=True) if result["method"] == first]
    cache_dir = runs[0].cache_dir
    hashes: list[np.ndarray] = []
    for number, dataset in enumerate(datasets):
        same = number and dataset == datasets[number - 1]
        hashes.append(hashes[-1] if same else load_dataset(dataset, None, cache_dir).text_hashes("test").numpy())
    return Documents(found, hashes)


def errors_of(runs: list[TrainConfig], results: list[dict[str, Any]]) -> Errors:
    """What the method with the best dev HF1-AUC over seeds gets wrong, looked at in its first run."""
    by_method: dict[str, list[float]] = {}
    for result in results:
        by_method.setdefault(result["method"], []).append(result["dev"]["hf1_auc"])
    best = max(by_method, key=lambda name: float(np.mean(by_method[name])))
    run, result = next((run, result) for run, result in zip(runs, results, strict=True) if result["method"] == best)
    dataset = load_dataset(run.dataset, None, run.cache_dir)
    model = load_model(Path(result["run_dir"]) / "model")
    test = dataset.splits["test"]
    if run.encoder.frozen:  # the features of all documents are there
        vectors = VectorInputs(cached_features(model.encoder, dataset.texts, run.cache_dir, run.encoder.batch_size))
        probabilities = vectors.in_parts(model.classifier, model.objective, test)
    else:
        texts = dataset.texts_of(test)
        probabilities = model.probabilities_in_parts(texts, run.encoder.batch_size, progress="encoding texts")
    name = f"The model with the best dev HF1-AUC ({label(best)})"
    return look_at(name, dataset, probabilities, model.decoder, model.tuned_threshold)


def task(config: DictConfig) -> None:
    """htc-reproduce."""
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, ReproduceConfig)
    report = reproduce(typed, shlex.join(["htc-reproduce", *sys.argv[1:]]))
    print_result((report.parent / "table.md").read_text(encoding="utf-8") + f"\nreport: {report}")
