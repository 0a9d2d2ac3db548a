"""The readers, each as a function that makes files from bytes, gives them to it, and lets every error out.

A reader may return, or raise InputError with a sentence on one line; anything else is a finding. No bytes are good files.
"""

import contextlib
import io
import json
import logging
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import torch
from accelerate import Accelerator
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

import htc.commands.reproduce
import htc.commands.train
import htc.experiment.config
import htc.experiment.saved_model
import rlkl.commands.config
import rlkl.commands.evaluate
import rlkl.commands.finetune
import rlkl.commands.pretrain
import rlkl.commands.reproduce
import rlkl.model.language_model
from fuzz import good
from fuzz.source import Source
from htc.commands.predict import read_texts
from htc.commands.reproduce import documents_of
from htc.datasets import Dataset, load_custom, load_published, load_table
from htc.labels.hierarchy import Hierarchy
from htc.predictor import Predictor
from rlkl_htc_common.commands.application import BAD_INPUT, run_application
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.models.encoders import TextEncoder, cached_features, load_encoder
from rlkl_htc_common.models.settings import EncoderConfig
from rlkl_htc_common.runs.directory import RunDirectory
from rlkl_htc_common.runs.tracking import Tracker, TrackingConfig
from rlkl_htc_common.training.checkpoints import CHECKSUMS, Checkpoints, random_state
from rlkl_htc_common.training.settings import TrainingConfig
from rlkl_htc_common.training.trainer import Trainer, TrainingData

CONF = Path(__file__).resolve().parents[1] / "conf"

Target = Callable[[Path, Source], None]


class FindingError(AssertionError):
    """A reader did what it must not do, without raising for it."""


def run(target: Target, data: bytes) -> None:
    """Give a target its bytes. Raises: what is a finding."""
    with TemporaryDirectory(prefix="fuzz-") as folder:
        try:
            target(Path(folder), Source(data))
        except InputError as error:
            if not str(error).strip() or "\n" in str(error):
                raise FindingError(f"no sentence on one line: {str(error)!r}") from error


def taxonomy(folder: Path, source: Source) -> None:
    """A taxonomy file."""
    (folder / "labels.taxonomy").write_bytes(source.file(good.TAXONOMY))
    hierarchy = Hierarchy.from_taxonomy(folder / "labels.taxonomy")
    if hierarchy.decode(hierarchy.encode([[path] for path in hierarchy.paths])) != [[path] for path in hierarchy.paths]:
        raise FindingError("a path of the taxonomy does not lead to its node.")


def documents(folder: Path, source: Source) -> None:
    """The JSON lines of a folder of one's own."""
    (folder / "labels.taxonomy").write_bytes(good.TAXONOMY)
    splits = source.choice((("documents.jsonl",), ("train.json",), ("a_train.jsonl", "a_val.jsonl", "a_test.jsonl")))
    for name in splits:
        (folder / name).write_bytes(source.file(good.documents()))
    _use(load_custom(folder))


def table(folder: Path, source: Source) -> None:
    """A table of one's own, separated by commas, semicolons or tabs, its paths over columns or in one cell."""
    separator, ending = source.choice(((",", ".csv"), (";", ".csv"), ("\t", ".tsv"), ("\t", ".TSV")))
    split, levels = source.choice((None, "split", "Split")), source.choice((None, ["area", "topic"], [], ["text"]))
    file = folder / f"documents{ending}"
    file.write_bytes(source.file(good.table(separator)))
    path, apart = (None, " > ") if source.number(4) < 3 else ("area", source.choice((" > ", "/", None, "", " - ", "\t", "s")))
    several = source.choice((None, ";", "", " "))
    levels = levels if path is None else None
    _use(load_table(file, split=split, levels=levels, path=path, separator=apart, path_separator=several))


def published(folder: Path, source: Source) -> None:
    """A published dataset, in the layout of the preprocessing."""
    name, max_depth = source.choice(("hwv", "wos", "rcv1", "bgc")), source.choice((None, 1, 2, 0, -1))
    files = {f"{name}_{split}.json": good.documents(4) for split in ("train", "val", "test")}
    files[f"{name}.taxonomy"] = good.TAXONOMY
    good.write(_one_broken(files, source), folder)
    _use(load_published(name, folder, max_depth))


def blurbs(folder: Path, source: Source) -> None:
    """The Blurb Genre Collection in its authors' layout."""
    good.write(_one_broken(good.blurbs(), source), folder)
    _use(load_published("bgc", folder))


def texts(folder: Path, source: Source) -> None:
    """What htc-predict labels."""
    ending, content = source.choice(
        (
            (".txt", b"Text 0.\n\nText 1.\n"),
            (".jsonl", good.documents(3)),
            (".json", b'[\n "Text 0.",\n {"text": "Text 1."}\n]\n'),
            ("", b"\xff\xfe" + "Text 0.\nText 1.\n".encode("utf-16-le")),
            (".csv", good.table()),
            (".tsv", good.table("\t")),
        )
    )
    file = folder / f"texts{ending}"
    file.write_bytes(source.file(content))
    for text in read_texts(htc.experiment.config.PredictConfig(input=str(file))):
        _refuse_unusable(text)


def saved_classifier(folder: Path, source: Source) -> None:
    """A trained model of htc, and a prediction with it. Its encoder is one that is at hand."""
    good.write(_one_broken(good.classifier_folder(), source), folder)
    with mock.patch.object(htc.experiment.saved_model, "load_encoder", _encoder_at_hand):
        model = htc.experiment.saved_model.load_model(folder)
    Predictor(model).predict(["Text", "?"])


def _encoder_at_hand(config: EncoderConfig) -> TextEncoder:
    if config.name == "tiny":
        return good.encoder()
    with TemporaryDirectory(prefix="fuzz-") as folder:
        good.write(good.encoder_folder(), Path(folder))
        return load_encoder(EncoderConfig(folder, config.pooling, config.max_length, config.frozen, config.batch_size))


def encoder(folder: Path, source: Source) -> None:
    """The folder of a text encoder."""
    good.write(_one_broken(good.encoder_folder(), source), folder)
    loaded = load_encoder(EncoderConfig(name=str(folder), max_length=16))
    loaded.fingerprint()


def features(folder: Path, source: Source) -> None:
    """Cached features of an encoder."""
    right = cached_features(good.encoder(), ["Text", "."], folder)
    (file,) = folder.iterdir()
    file.write_bytes(source.file(file.read_bytes()))
    found = cached_features(good.encoder(), ["Text", "."], folder)
    if found.shape != right.shape or found.dtype != right.dtype:
        raise FindingError(f"the features are {tuple(found.shape)} of {found.dtype}, not {tuple(right.shape)}.")


def language_model(folder: Path, source: Source) -> None:
    """A model of rlkl, and what comes first with it."""
    good.write(_one_broken(good.language_model_folder(), source), folder)
    model = rlkl.model.language_model.load_model(str(folder))
    asked = rlkl.commands.config.EvaluateConfig(model=str(folder), digits=[1], operands=["varying"])
    rlkl.commands.evaluate.settings(asked, model)
    with torch.no_grad():
        model(torch.zeros(1, 3, dtype=torch.long))


def run_directory(folder: Path, source: Source) -> None:
    """A run directory, as it is continued and as its result is read."""
    path = folder / "run"
    good.write(_one_broken(good.run_folder(), source), path)
    run = RunDirectory(path, good.RUN_CONFIG)
    run.result()
    with Tracker(run, TrackingConfig(mode="disabled"), job_type="train", name="run", resume_step=1) as tracker:
        tracker.log(2, {"loss": 0.2})
    run.metrics()


def run_files(folder: Path, source: Source) -> None:
    """What reproductions read beside a finished run: scores of documents, drift."""
    name = source.choice(("documents.safetensors", "drift-1.json"))
    if name == "drift-1.json":
        (folder / name).write_bytes(source.file(b'{"N": {"kl": 0.5, "changed": 0.1, "positions": []}}'))
        result = {"run_dir": str(folder), "reference": "addition-n5", "trained_digits": 1, "digits": 2}
        rlkl.commands.reproduce.drift_of(result | {"history": [{"step": 1}]})
    else:
        (folder / name).write_bytes(source.file(good.classifier_folder()["seen.safetensors"]))
        good.write({"a.taxonomy": good.TAXONOMY, "documents.jsonl": good.documents()}, folder / "data")
        run = htc.experiment.config.TrainConfig(
            dataset=htc.experiment.config.CustomConfig("custom", 0.1, 0.2, 0, dir=str(folder / "data"))
        )
        documents_of([run], [{"run_dir": str(folder), "method": "bce"}])


def checkpoints(folder: Path, source: Source) -> None:
    """The checkpoints of a training, damaged with and without the checksums knowing."""
    _trainer(folder).checkpoints.folder.mkdir(exist_ok=True)
    for step in (1, 2):
        trainer = _trainer(folder)
        trainer.step = step
        trainer.kept, trainer.best_step = {"epoch": 1}, step
        trainer.checkpoints.save_best(step, trainer.model)
        trainer._save()
    for checkpoint in source.choice(((2,), (1,), (1, 2))):
        _damage(folder / f"step-{checkpoint:08d}", source)
    torch.manual_seed(0)
    before = random_state()["torch"]
    try:
        _trainer(folder).resume()
    finally:
        torch.set_rng_state(before)


def _trainer(folder: Path) -> Trainer:
    data = TrainingData(size=4, collate=lambda rows: (torch.ones(len(rows), 2), torch.ones(len(rows), 2)))
    return Trainer(
        good.Trained(),
        lambda epoch: data,
        torch.nn.functional.mse_loss,
        TrainingConfig(2, 2, learning_rate=1e-3, weight_decay=0.01, warmup_fraction=0.1, max_grad_norm=1.0),
        seed=0,
        accelerator=Accelerator(cpu=True),
        checkpoints=Checkpoints(folder),
        evaluate=dict,
        progress=False,
    )


def _damage(checkpoint: Path, source: Source) -> None:
    files = {file.name: file.read_bytes() for file in sorted(checkpoint.iterdir())}
    name = source.choice((*files, "structure"))
    if name == "structure":  # well-formed, and not what the training expects
        state = torch.load(io.BytesIO(files["state.pt"]), weights_only=True)
        key = source.choice(list(state))
        state[key] = source.choice((None, 0, -1, "a", [], {}, {"a": 1}, [[]], torch.zeros(2), float("nan")))
        torch.save(state, checkpoint / "state.pt")
        name = "state.pt"
    else:
        (checkpoint / name).write_bytes(source.file(files[name]))
    if name != CHECKSUMS and source.number(2):
        sums = {file.name: _checksum(file) for file in sorted(checkpoint.iterdir()) if file.name != CHECKSUMS}
        (checkpoint / CHECKSUMS).write_text(json.dumps(sums))


def _checksum(file: Path) -> int:
    import zlib

    return zlib.crc32(file.read_bytes())


def _check_htc_train(config: htc.experiment.config.TrainConfig) -> None:
    htc.commands.train.check(config)


def _check_htc_reproduce(config: htc.experiment.config.ReproduceConfig) -> None:
    for each in htc.commands.reproduce.grid(config, HydraConfig.get().overrides.task):
        htc.commands.train.check(each.run)


def _check_rlkl_reproduce(config: rlkl.commands.config.ReproduceConfig) -> None:
    runs = rlkl.commands.reproduce.grid(config)
    rlkl.commands.reproduce.axis_of(config, runs)
    for each in runs:
        rlkl.commands.finetune.check(each)


APPLICATIONS: dict[tuple[str, str], Callable[..., None]] = {
    ("htc", "train"): _check_htc_train,
    ("htc", "reproduce"): _check_htc_reproduce,
    ("htc", "evaluate"): lambda config: None,
    ("htc", "predict"): lambda config: None,
    ("rlkl", "finetune"): rlkl.commands.finetune.check,
    ("rlkl", "pretrain"): rlkl.commands.pretrain.check,
    ("rlkl", "evaluate"): rlkl.commands.evaluate.check,
    ("rlkl", "reproduce"): _check_rlkl_reproduce,
}
SCHEMAS = {
    ("htc", "train"): htc.experiment.config.TrainConfig,
    ("htc", "reproduce"): htc.experiment.config.ReproduceConfig,
    ("htc", "evaluate"): htc.experiment.config.EvaluateConfig,
    ("htc", "predict"): htc.experiment.config.PredictConfig,
    ("rlkl", "finetune"): rlkl.commands.config.FinetuneConfig,
    ("rlkl", "pretrain"): rlkl.commands.config.PretrainConfig,
    ("rlkl", "evaluate"): rlkl.commands.config.EvaluateConfig,
    ("rlkl", "reproduce"): rlkl.commands.config.ReproduceConfig,
}
GIVEN = {"htc": ["dataset=custom", "dataset.dir=."], "rlkl": []}
VALUES = (
    *("0", "-1", "1", "1.5", "nan", "inf", "1e400", "null", "true", "''", "a", "é", "${seed}", "${nothing}", "${oc.env:HOME}"),
    *(
        "[]",
        "{}",
        "[1,2]",
        "[a]",
        "{a:1}",
        "1,2",
        "???",
        "9" * 5000,
        "[" * 2000,
        "[" * 1500 + "]" * 1500,
        "a" * 300,
        "\\",
        "'",
        "a b",
        "\ud800",
    ),
)


def command_line(folder: Path, source: Source) -> None:
    """Overrides on the command line of an entry point, up to where its work would begin."""
    package, application = source.choice(list(APPLICATIONS))
    arguments = list(GIVEN[package]) if source.number(4) != 3 else []
    for _ in range(source.number(4)):
        key = source.choice(_keys(package, application))
        value = source.choice((*VALUES, None))
        if value is None:
            value = os.fsdecode(source.rest().replace(b"\0", b"")[:200])
        arguments.append(f"{source.choice(('', '', '', '+', '~', '++'))}{key}{source.choice(('=', '=', '=', ''))}{value}")
    if source.number(4) == 3:
        arguments.append(os.fsdecode(source.rest().replace(b"\0", b"")))
    arguments = [argument for argument in arguments if not argument.lstrip("+~").startswith(("-", "hydra"))]
    _call(folder, package, application, arguments)


def configs(folder: Path, source: Source) -> None:
    """A file of conf/ that somebody changed."""
    package, application = source.choice(list(APPLICATIONS))
    files = _conf_files(package, application)
    name = source.choice(list(files))
    conf = folder / "conf"
    good.write({**files, name: source.file(files[name])}, conf)
    with mock.patch.dict(os.environ, {"RLKL_HTC_CONF": str(conf)}):
        _call(folder, package, application, GIVEN[package])


def _conf_files(package: str, application: str) -> good.Files:
    parts = {f"{application}.yaml", "classifier.yaml", "finetuning.yaml"}
    found = {}
    for file in sorted((CONF / package).rglob("*.yaml")):
        if file.parent != CONF / package or file.name in parts:
            found[str(file.relative_to(CONF))] = file.read_bytes()
    return {name: content for name, content in found.items() if "/hydra/" not in name}


def _keys(package: str, application: str) -> list[str]:
    """Some keys of a config, with and without children, and some groups."""
    schema = {
        ("htc", "train"): htc.experiment.config.TrainConfig,
        ("htc", "reproduce"): htc.experiment.config.ReproduceConfig,
        ("htc", "evaluate"): htc.experiment.config.EvaluateConfig,
        ("htc", "predict"): htc.experiment.config.PredictConfig,
        ("rlkl", "finetune"): rlkl.commands.config.FinetuneConfig,
        ("rlkl", "pretrain"): rlkl.commands.config.PretrainConfig,
        ("rlkl", "evaluate"): rlkl.commands.config.EvaluateConfig,
        ("rlkl", "reproduce"): rlkl.commands.config.ReproduceConfig,
    }[package, application]
    keys: list[str] = []
    for key, value in OmegaConf.structured(schema)._content.items():
        keys.append(key)
        if isinstance(value, DictConfig) and not value._is_missing():
            keys += [f"{key}.{below}" for below in value]
    return keys


def _call(folder: Path, package: str, application: str, arguments: list[str]) -> None:
    """Run an entry point on arguments with its check as its work."""
    errors = io.StringIO()
    {"htc": htc.experiment.config, "rlkl": rlkl.commands.config}[package].register()

    def task(config: DictConfig) -> None:
        typed = OmegaConf.to_object(config)
        APPLICATIONS[package, application](typed)
        _refuse_not_finite(OmegaConf.to_container(config, resolve=True))

    handlers, here = logging.getLogger().handlers, Path.cwd()
    os.chdir(folder)
    try:
        with mock.patch.object(sys, "argv", ["prog", *arguments]), contextlib.redirect_stderr(errors):
            run_application(
                task,
                application=package,
                config=application,
                schema=SCHEMAS[package, application],
            )
    except SystemExit as stop:
        told = errors.getvalue().strip()
        if stop.code not in (0, BAD_INPUT):
            raise FindingError(f"exit code {stop.code}: {told}") from stop
        if stop.code == BAD_INPUT and (not told or "\n" in told):
            raise FindingError(f"no sentence on one line: {told!r}") from stop
        if stop.code == BAD_INPUT and not arguments_differ(arguments, package):
            raise InputError(told) from stop
    finally:
        os.chdir(here)
        logging.getLogger().handlers = handlers


def arguments_differ(arguments: list[str], package: str) -> bool:
    """Whether a command line is other than the one that is known to be right."""
    return arguments != GIVEN[package]


def _refuse_not_finite(config: object, name: str = "") -> None:
    """What passed the checks is to be trained with: no number in it may be NaN or infinite, but for the dataset's own."""
    if isinstance(config, dict):
        for key, value in config.items():
            if name or key != "dataset":  # its shares are looked at when they are needed
                _refuse_not_finite(value, f"{name}.{key}")
    if isinstance(config, float) and not math.isfinite(config):
        raise FindingError(f"{name} is {config}, and was not refused.")


def _one_broken(files: good.Files, source: Source) -> good.Files:
    name = source.choice(list(files))
    return {**files, name: source.file(files[name])}


def _use(dataset: Dataset) -> None:
    """What is done with a dataset before it is trained on."""
    json.dumps(dataset.facts(), allow_nan=False)
    dataset.describe()
    dataset.text_hashes("train")
    for text in dataset.texts:
        _refuse_unusable(text)


def _refuse_unusable(text: str) -> None:
    """No tokenizer takes half a character, and nothing can be said of no text."""
    text.encode()
    if not text.strip():
        raise FindingError("a text is empty.")


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (
        *(taxonomy, documents, table, published, blurbs, texts, saved_classifier, encoder, features, language_model),
        *(run_directory, run_files, checkpoints, command_line, configs),
    )
}
