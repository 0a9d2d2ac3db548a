"""rlkl-inspect: where a causal language model is unsure, token by token, and what a token there is worth.

rlkl-inspect                                                                  a model of rlkl, on its own task
rlkl-inspect model=smollm2 prompt="The capital of France is" samples=4 output=outputs/inspection
rlkl-inspect model=RUN/model reference=addition-n5 before=addition-n5 verifier=task
"""

if __name__ == "__main__":  # before what takes seconds to import
    from rlkl.commands import scripts

    scripts.inspect()


import json
import logging
import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from rlkl.calibration import beta_for_share
from rlkl.commands.config import InspectConfig
from rlkl.inspection.models import DTYPES, CausalModel, check_same_tokens, load_all
from rlkl.inspection.rows import Row, add_worths, make_row, means
from rlkl.inspection.sampling import sample
from rlkl.inspection.scores import ESTIMATORS, Measure, Scores, score
from rlkl.inspection.texts import Passage, Text, check_lengths, read_texts, to_passages
from rlkl.inspection.verifiers import OF_THE_TASK, Verifier, problem_in, verifier_named
from rlkl.inspection.worth import Place, least_certain, worth_of
from rlkl.model.completion import check_positions
from rlkl.model.completion import sample as sample_problems
from rlkl.model.texts import longest_completion
from rlkl.report.token_view import finding, ranking_table, to_terminal, write_token_page
from rlkl.settings import CERTAINTIES
from rlkl_htc_common.commands.application import print_as_is, print_result
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.runs.directory import git_commit, is_in_use, make_folder, versions, write_atomically
from rlkl_htc_common.terminal import printable

log = logging.getLogger(__name__)

COMPARE = ("completions", "samples")
PAGE, LINES = "inspection.html", "inspection.jsonl"


@dataclass
class Inspection:
    """What was found.

    Attributes:
        rows: of the model, in order; then those of the model before.
        ranking: the least certain tokens of the model.
        exponent: of the weights; None without a reference, or where no exponent gives the share.
        seconds: by what they were spent on.
    """

    rows: list[Row]
    ranking: list[Place] = field(default_factory=list)
    exponent: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def of(self, role: str) -> list[Row]:
        """The rows of the model, or of the one before."""
        return [row for row in self.rows if row["role"] == role]


def check(config: InspectConfig) -> None:
    """Refuse what could only fail later. Raises InputError."""
    lowest = {"problems": 1, "samples": 1, "max_new_tokens": 1, "least": 0, "alternatives": 2, "continuations": 1}
    for name, least in (lowest | {"batch_size": 1, "show": 0}).items():
        if getattr(config, name) < least:
            raise InputError(f"{name} must be at least {least}, not {getattr(config, name)}.")
    choices = {"certainty": CERTAINTIES, "kl": ESTIMATORS, "dtype": DTYPES, "compare": COMPARE}
    for name, known in choices.items():
        if getattr(config, name) not in known:
            raise InputError(f"{name} must be one of {', '.join(known)}, not {getattr(config, name)!r}.")
    if not 0 <= config.temperature < math.inf:
        raise InputError(f"temperature must be a number of at least 0, not {config.temperature}.")
    if not 0 < config.certainty_temperature < math.inf:
        raise InputError(f"certainty_temperature must be positive, not {config.certainty_temperature}.")
    if config.beta is not None and not 0 <= config.beta < math.inf:
        raise InputError(f"beta must be a number of at least 0, or null, not {config.beta}.")
    if not 0 < config.share < 1:
        raise InputError(f"share must be above 0 and below 1, not {config.share}.")
    if config.digits is not None and config.digits < 1:
        raise InputError(f"digits must be at least 1, not {config.digits}.")
    _check_texts(config)
    if config.output is not None and is_in_use(Path(config.output)):
        raise InputError(f"{config.output} exists; choose another output, or an empty folder.")


def _check_texts(config: InspectConfig) -> None:
    if config.input is not None and config.prompt is not None:
        raise InputError("input and prompt are both given; give one.")
    if config.completion is not None and config.prompt is None:
        raise InputError("completion is given without prompt; give prompt, too (prompt= for an empty one).")
    if config.compare == "samples" and config.before is None:
        raise InputError("compare=samples is for two models; name the other as before.")


def texts_of(config: InspectConfig, model: CausalModel) -> list[Text]:
    """The prompts, with completions where they are given. Raises InputError if there are none, or a file cannot be read."""
    if config.input is not None:
        return read_texts(Path(config.input))
    if config.prompt is not None:
        return [Text("prompt", config.prompt, config.completion)]
    if model.task is None:
        raise InputError(
            f"input or prompt must be given, e.g. prompt='The capital of France is'; {model.name} has no task of its own."
        )
    digits = model.model.config.trained_digits + 1 if config.digits is None else config.digits
    check_positions(model.task, model.model.config.n_positions, digits)
    problems = sample_problems(model.task, "varying", digits, config.problems, config.seed)
    return [Text(f"problem {number}", model.task.prompt(pair)) for number, pair in enumerate(problems, start=1)]


def room_for(model: CausalModel, passage: Passage, most: int) -> int:
    """The tokens that a completion may have: as many as the right one needs for problems of rlkl's tasks, `most` for others.

    One that is there may have its tokens, and no more than fit into the model.
    """
    if model.task is not None:
        with suppress(InputError):  # another text than a problem
            most = longest_completion(model.task, [problem_in(model.task, passage.prompt)])
    written = len(passage.completion_tokens)
    if not written:
        return most
    fitting = most if model.positions is None else min(most, model.positions - len(passage.prompt_tokens))
    return max(fitting, written)


def _check_problems(model: CausalModel, given: Sequence[Passage]) -> None:
    """Refuse prompts that the grader of a task cannot grade. Raises InputError."""
    assert model.task is not None
    for passage in given:
        try:
            problem_in(model.task, passage.prompt)
        except InputError as error:
            raise InputError(f"{passage.where}: {error}") from error


@contextmanager
def timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    """Add the time that passes within."""
    started = time.perf_counter()
    yield
    seconds[what] = seconds.get(what, 0.0) + time.perf_counter() - started


@contextmanager
def bar_of(total: int, what: str, progress: bool) -> Iterator[Callable[[int], object]]:
    """A progress bar. Yields: what advances it."""
    with tqdm(total=total, desc=what, unit="", disable=not progress, leave=False) as bar:
        yield bar.update


def inspect(config: InspectConfig, progress: bool = True) -> Inspection:
    """Inspect a model. Raises InputError for input that cannot be used."""
    check(config)
    found = Inspection([])
    with timed(found.seconds, "loading"):
        names = {"model": config.model, "reference": config.reference, "before": config.before}
        models = load_all(names, config.gguf_file, config.dtype)
    model, reference, before = models["model"], models["reference"], models["before"]
    assert model is not None
    _check_models(config, model, reference, before)
    verifier = None if config.verifier is None else verifier_named(config.verifier, model.task)
    given = list(to_passages(model, texts_of(config, model), config.chat))
    for each in (model, reference, before):
        if each is not None:
            check_lengths(each, given, [room_for(each, passage, config.max_new_tokens) for passage in given])
    if config.verifier == OF_THE_TASK:
        _check_problems(model, given)
    if config.output is not None:
        make_folder(Path(config.output))
    passages = _completed(config, model, given, found.seconds, progress)
    scores = _scored(config, model, reference, passages, found.seconds, progress)
    found.exponent = None if reference is None else exponent_of(config, scores)
    found.rows = _rows(model, "model", passages, scores, found.exponent)
    found.ranking = least_certain(scores, config.least)
    if verifier is not None:
        _verify(config, model, passages, scores, verifier, found, progress)
    if before is not None:
        others = passages if config.compare == "completions" else _completed(config, before, given, found.seconds, progress)
        rows = _rows(before, "before", others, _scored(config, before, None, others, found.seconds, progress), None)
        found.rows += rows if verifier is None else _graded(rows, verifier)
    return found


def _check_models(config: InspectConfig, model: CausalModel, reference: CausalModel | None, before: CausalModel | None) -> None:
    for other in (reference, before):
        if other is not None:
            check_same_tokens(model, other)
    if reference is not None and config.kl == "exact" and reference.vocabulary != model.vocabulary:
        raise InputError(
            f"{reference.name} gives {reference.vocabulary} logits and {model.name} {model.vocabulary}: an exact KL needs as "
            "many; choose kl=k2."
        )


def _completed(
    config: InspectConfig, model: CausalModel, given: Sequence[Passage], seconds: dict[str, float], progress: bool
) -> list[Passage]:
    """Passages with completions, `samples` of those that had none."""
    copies = [passage for passage in given for _ in range(1 if passage.completion_tokens else config.samples)]
    missing = [row for row, passage in enumerate(copies) if not passage.completion_tokens]
    if not missing:
        return copies
    rooms = [room_for(model, copies[row], config.max_new_tokens) for row in missing]
    with timed(seconds, "sampling"), bar_of(len(missing), "sampling", progress) as advance:
        sampled = sample(
            model,
            [copies[row].prompt_tokens for row in missing],
            rooms,
            temperature=config.temperature,
            generator=torch.Generator().manual_seed(config.seed),
            batch_size=config.batch_size,
            advance=advance,
        )
    for row, tokens in zip(missing, sampled, strict=True):
        copies[row] = replace(copies[row], completion_tokens=tokens)
    return copies


def _scored(
    config: InspectConfig,
    model: CausalModel,
    reference: CausalModel | None,
    passages: Sequence[Passage],
    seconds: dict[str, float],
    progress: bool,
) -> list[Scores]:
    measure = Measure(config.certainty, config.certainty_temperature, config.kl, config.alternatives)
    with timed(seconds, "measuring"), bar_of(len(passages), "measuring", progress) as advance:
        return score(model, passages, measure, reference=reference, batch_size=config.batch_size, advance=advance)


def exponent_of(config: InspectConfig, scores: Sequence[Scores]) -> float | None:
    """The exponent of the weights: `beta`, or the one that gives the share; None, with a warning, where none does."""
    if config.beta is not None:
        return config.beta
    certainty = torch.cat([each.reference_certainty for each in scores])
    try:
        return beta_for_share(certainty, torch.ones_like(certainty, dtype=torch.bool), config.share)
    except InputError as error:
        log.warning("no weights: %s Or give beta.", error)
        return None


def _rows(
    model: CausalModel, role: str, passages: Sequence[Passage], scores: Sequence[Scores], exponent: float | None
) -> list[Row]:
    return [
        make_row(model, role, number, passage, of_row, exponent)
        for number, (passage, of_row) in enumerate(zip(passages, scores, strict=True))
    ]


def _graded(rows: list[Row], verifier: Verifier) -> list[Row]:
    return [row | {"success": verifier(row["prompt"], row["completion"])} for row in rows]


def _verify(
    config: InspectConfig,
    model: CausalModel,
    passages: Sequence[Passage],
    scores: Sequence[Scores],
    verifier: Verifier,
    found: Inspection,
    progress: bool,
) -> None:
    """Grade the completions, and measure what the least certain tokens are worth."""
    found.rows = _graded(found.rows, verifier)
    total = 2 * config.continuations * len(found.ranking)
    with timed(found.seconds, "continuing"), bar_of(total, "continuations", progress) as advance:
        worths = worth_of(
            model,
            passages,
            scores,
            found.ranking,
            lambda row, completion: verifier(passages[row].prompt, completion),
            continuations=config.continuations,
            new_tokens=[room_for(model, passage, config.max_new_tokens) for passage in passages],
            temperature=config.temperature,
            seed=config.seed,
            batch_size=config.batch_size,
            advance=advance,
        )
    add_worths(model, found.rows, found.ranking, worths)


def write(folder: Path, config: InspectConfig, found: Inspection, command: str, title: str = "") -> None:
    """Write the JSON lines and the page. Args: command: what was typed; title: of the page, where the model's name is not."""
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in found.rows]
    write_atomically(folder / LINES, "".join(f"{line}\n" for line in lines))
    facts = [
        ("command", command),
        ("model", config.model),
        *(("reference", name) for name in [config.reference] if name is not None),
        *(("before", name) for name in [config.before] if name is not None),
        ("certainty", f"{config.certainty}, at temperature {config.certainty_temperature:g}"),
        *(("exponent of the weights (beta)", f"{beta:.4g}") for beta in [found.exponent] if beta is not None),
        *((role, _sums(means(found.of(role)))) for role in ("model", "before") if found.of(role)),
        ("time", _times(found.seconds)),
        ("commit", str(git_commit())),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions().items())),
    ]
    of_model = found.of("model")
    lead = f"Each token of {len(of_model)} completions, coloured by how certain the model was where it stands."
    lead = finding(of_model, found.ranking) + lead
    write_token_page(folder / PAGE, title or f"Where {config.model} is unsure", lead, found.rows, found.ranking, facts)


def _sums(of_rows: dict[str, Any]) -> str:
    names = {"share_below_half": "share of weights below one half", "kl": "KL in nats", "entropy": "entropy in nats"}
    counted = [f"{of_rows['completions']:,} completions", f"{of_rows['tokens']:,} tokens"]
    averaged = [f"{names.get(name, name)} {value:.4g}" for name, value in of_rows.items() if isinstance(value, float)]
    return f"{', '.join(counted)}; mean {', '.join(averaged)}"


def _times(seconds: dict[str, float]) -> str:
    return ", ".join(f"{what} {value:.1f} s" for what, value in seconds.items())


def shown(config: InspectConfig, found: Inspection, color: bool) -> str:
    """What the terminal shows: the first completions, and with colours what these mean."""
    parts = []
    for row in found.rows:
        if row["row"] < config.show:
            success = "" if row["success"] is None else f", success {row['success']:.3g}"
            role = " (before)" if row["role"] == "before" else ""
            head = printable(f"completion {row['row'] + 1} of {row['model']}{role}{success}")
            parts.append(f"{head}\n{to_terminal(row, color)}\n")
    if color and parts:
        parts.append("the stronger the colour, the less certain\n")
    return "\n".join(parts)


def task(config: DictConfig) -> None:
    """rlkl-inspect."""
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, InspectConfig)
    found = inspect(typed)
    color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    if text := shown(typed, found, color):
        print_as_is(text)  # with colours; what it quotes is escaped
    if found.ranking:
        print_result(f"the least certain tokens\n{ranking_table(found.of('model'), found.ranking)}\n")
    if found.exponent is not None:
        print_result(f"weights: certainty of {typed.reference} to the power of {found.exponent:.4g}")
    for role in ("model", "before"):
        if of_role := found.of(role):
            print_result(f"{role}: {_sums(means(of_role))}")
    print_result(_times(found.seconds))
    if typed.output is not None:
        write(Path(typed.output), typed, found, shlex.join(["rlkl-inspect", *sys.argv[1:]]))
        print_result(f"page: {Path(typed.output) / PAGE}")
