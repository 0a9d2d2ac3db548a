"""make reproduce-htc: train every method with every seed, apply every inference rule, and write a report.

    htc-reproduce                                           experiment=icd10cm, from conf/htc/experiment
    htc-reproduce experiment=hwv dataset.dir=path/to/hwv
    htc-reproduce seeds=[0,1,2,3,4] jobs=8

Finished runs are not run again, and a killed one continues, so the same command can be given until it ends.
"""

if __name__ == "__main__":  # before what takes seconds to import
    from rlkl_htc_common.cli.entry import begin

    begin("htc")


import logging
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError
from safetensors.numpy import load_file

from htc.commands.train import PER_DOCUMENT, check, check_select, check_targets, headline, train, warn_if_slow
from htc.datasets import Dataset
from htc.experiment.build import load_dataset, make_objective
from htc.experiment.config import DatasetConfig, DrawnConfig, ReproduceConfig, TrainConfig, register
from htc.experiment.identity import identity_of, plainest_loss
from htc.experiment.saved_model import load_model
from htc.report.against import against_section, load_other
from htc.report.comparison_section import Documents
from htc.report.errors_section import errors_section
from htc.report.labels import label
from htc.report.reproduction import summarize, write_htc_report
from htc.settings import AUTO
from rlkl_htc_common.cli.application import UNCOMPOSABLE, describe, print_result, run_application
from rlkl_htc_common.cli.grammar import literal
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.models.encoders import cached_features, load_encoder
from rlkl_htc_common.report.page import Section
from rlkl_htc_common.report.run_list import list_runs
from rlkl_htc_common.runs.commands import commands_of
from rlkl_htc_common.runs.directory import make_folder, write_json
from rlkl_htc_common.runs.parallel import number_of_jobs, run_all

log = logging.getLogger(__name__)


class Method(NamedTuple):
    """A method with one seed: its name, the files of groups that it chooses, and the config of its run."""

    name: str
    choices: list[str]
    run: TrainConfig


def grid(config: ReproduceConfig, given: Sequence[str]) -> list[Method]:
    """The training runs that a reproduction consists of: each method with each seed. Called inside a Hydra application.

    Args:
        given: the overrides of the command line, to which those of each method are added.

    Raises:
        InputError: for an empty grid, or one that names a run twice; for a method that sets what it cannot.
    """
    if not config.methods or not config.seeds:
        raise InputError("methods and seeds must each hold at least one entry.")
    if len(set(config.seeds)) < len(config.seeds):
        raise InputError("seeds must hold an entry only once.")
    if {_key(override) for override in given} & {"seed", "run_dir"}:
        raise InputError("a reproduction takes seeds=[...], and neither seed nor run_dir.")
    methods = {name: _config_of(name, overrides, given) for name, overrides in config.methods.items()}
    plain = {name: replace(run, loss=plainest_loss(run.loss)) for name, run in methods.items() if run.loss.name != AUTO}
    for (one, first), (other, second) in combinations(plain.items(), 2):
        if identity_of(first) == identity_of(second):
            raise InputError(f"methods: {one} and {other} do not differ.")
    return [
        Method(name, _choices(config.methods[name]), replace(run, seed=seed, dataset=_dataset(config, seed)))
        for seed in config.seeds
        for name, run in methods.items()
    ]


def _config_of(name: str, overrides: Mapping[str, Any], given: Sequence[str]) -> TrainConfig:
    """The config of a method. Raises InputError for what it cannot set."""
    known = {field.name for field in fields(TrainConfig)} - {"dataset", "seed", "run_dir"}
    for key in overrides:
        if key.split(".")[0] not in known:
            raise InputError(f"methods: {name} cannot set {key}; it can set {', '.join(sorted(known))}, and keys of these.")
    rest = [override for override in given if _key(override) not in overrides]
    own = [f"{key}={literal(value)}" for key, value in overrides.items()]
    try:
        typed = OmegaConf.to_object(compose("reproduce", [*rest, *own]))
    except (HydraException, OmegaConfBaseException, *UNCOMPOSABLE) as error:
        raise InputError(f"methods: {name}: {describe(error)}") from error
    assert isinstance(typed, ReproduceConfig)
    return TrainConfig(**{field.name: getattr(typed, field.name) for field in fields(TrainConfig)})


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _choices(overrides: Mapping[str, Any]) -> list[str]:
    """Those of a method that choose a file of a group."""
    return [f"{key}={literal(value)}" for key, value in overrides.items() if key in ("loss", "encoder", "training")]


def _dataset(config: ReproduceConfig, seed: int) -> DatasetConfig:
    if not config.split_per_seed:
        return config.dataset
    if not isinstance(config.dataset, DrawnConfig):
        raise InputError(f"split_per_seed: the splits of {config.dataset.name} are the official ones; set it to false.")
    return replace(config.dataset, split_seed=seed)


def prepare(runs: list[TrainConfig]) -> Dataset:
    """Refuse what would fail in every run, and compute the features that all runs share, before any run is started.

    Returns:
        The documents of the first run.
    """
    dataset = load_dataset(runs[0].dataset)
    log.info("%s", dataset.describe())
    for run in runs:
        check(run)
        objective = make_objective(run.loss, dataset.hierarchy, None)
        check_targets(objective, dataset)
        check_select(run, objective)
    if runs[0].encoder.frozen:
        encoder = load_encoder(runs[0].encoder)
        cached_features(encoder, dataset.texts, runs[0].cache_dir, runs[0].encoder.batch_size)
    return dataset


def reproduce(config: ReproduceConfig, command: str, given: Sequence[str]) -> Path:
    """Run the grid and write `report.html`, `summary.json`, `table.md` and figures.

    Args: command: that the report names; given: see `grid`. Returns: the report.
    """
    started = time.monotonic()
    jobs = number_of_jobs(config.jobs)
    methods = grid(config, given)
    runs, names = [method.run for method in methods], list(config.methods)
    output = Path(config.output)
    make_folder(output)
    warn_if_slow(runs[0], len(runs))
    dataset = prepare(runs)
    other = None
    if config.against is not None:
        other = load_other(config.against, dataset.facts(), names, config.seeds)
    done = run_all(partial(train, progress=False), runs, jobs, "training runs")
    results = [result | {"method": method.name} for method, result in zip(methods, done, strict=True)]
    documents = documents_of(runs, results)
    summary = summarize(results)
    commands = commands_of("htc-train", "train", runs, [method.choices for method in methods])
    folders = [result["run_dir"] for result in results]
    summary["runs"] = list_runs(
        [label(method.name) for method in methods], runs, [headline(r["test"]) for r in results], commands, folders
    )
    summary["wall_seconds"] = round(time.monotonic() - started, 1)
    write_json(output / "summary.json", summary)
    more = [errors_of(runs, results)]
    if other is not None and config.against is not None:
        more.insert(0, against_section(summary, other, config.against))
    return write_htc_report(output, config.title, summary, command, documents, more)


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
    hashes: list[np.ndarray] = []
    for number, dataset in enumerate(datasets):
        same = number and dataset == datasets[number - 1]
        hashes.append(hashes[-1] if same else load_dataset(dataset).text_hashes("test").numpy())
    return Documents(found, hashes)


def errors_of(runs: list[TrainConfig], results: list[dict[str, Any]]) -> Section:
    """What the method with the best dev HF1-AUC over seeds gets wrong, looked at in its first run."""
    by_method: dict[str, list[float]] = {}
    for result in results:
        by_method.setdefault(result["method"], []).append(result["dev"]["hf1_auc"])
    best = max(by_method, key=lambda name: float(np.mean(by_method[name])))
    run, result = next((run, result) for run, result in zip(runs, results, strict=True) if result["method"] == best)
    dataset = load_dataset(run.dataset)
    model = load_model(Path(result["run_dir"]) / "model")
    test = dataset.splits["test"]
    if run.encoder.frozen:  # the features of all documents are at hand
        vectors = cached_features(model.encoder, dataset.texts, run.cache_dir, run.encoder.batch_size)[test]
    else:
        texts = [dataset.texts[i] for i in test.tolist()]
        vectors = model.encoder.embed(texts, run.encoder.batch_size, progress="encoding texts")
    name = f"The model with the best dev HF1-AUC ({label(best)})"
    return errors_section(name, dataset, model.probabilities(vectors), model.decoder, model.tuned_threshold)


def _given() -> list[str]:
    """The overrides of the command line in Hydra's grammar, as they were written: `${...}` in a text stays escaped."""
    given = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    assert isinstance(given, list)
    return [str(override) for override in given]


def _task(config: DictConfig) -> None:
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, ReproduceConfig)
    command = shlex.join(["python", "-m", "htc.commands.reproduce", *sys.argv[1:]])
    report = reproduce(typed, command, _given())
    print_result((report.parent / "table.md").read_text(encoding="utf-8") + f"\nreport: {report}")


def main() -> None:
    """The entry point."""
    register()
    run_application(_task, application="htc", config="reproduce", schema=ReproduceConfig)


if __name__ == "__main__":
    main()
