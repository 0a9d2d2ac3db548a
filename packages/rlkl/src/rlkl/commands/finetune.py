"""rlkl-finetune: reinforcement learning on numbers that are longer than in pre-training.

rlkl-finetune                                        the embedded model on N + 1 digits, A2C, prioritized KL
rlkl-finetune penalty=standard algorithm=grpo seed=1
rlkl-finetune algorithm.iterations=24                longer: continues the run with the default 12 iterations
rlkl-finetune model=RUN/model reference=addition-n5  fine-tunes a fine-tuned model, with the KL to the original
rlkl-finetune --multirun penalty=none,standard,prioritized,matched_mean seed=0,1,2,3,4
torchrun --nproc-per-node 2 -m rlkl.commands.finetune         two processes (GPUs if available), same episodes
"""

if __name__ == "__main__":  # before the slow imports
    from rlkl.commands import scripts

    scripts.finetune()


import logging
import math
import shutil
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import PartialState
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm
from transformers import GPT2LMHeadModel

from rlkl.analysis.certainty_gaps import scratchpads
from rlkl.commands.config import FinetuneConfig
from rlkl.finetuning.learner import Learner
from rlkl.finetuning.progress import Progress
from rlkl.model.completion import check_positions, complete, sample
from rlkl.model.language_model import check_reference, fingerprint, load_model, save_model, task_of
from rlkl.penalty import Penalty
from rlkl.report.scratchpad_view import to_html
from rlkl.settings import AlgorithmSettings, PenaltySettings
from rlkl_htc_common.cli.interruption import finishing
from rlkl_htc_common.commands.application import print_result
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.runs.directory import RunDirectory, config_hash
from rlkl_htc_common.runs.tracking import Tracker, open_tracker, wandb_mode
from rlkl_htc_common.training.checkpoints import Checkpoints
from rlkl_htc_common.training.cost import Stopwatch
from rlkl_htc_common.training.step import anywhere
from rlkl_htc_common.training.trainer import LARGE, make_accelerator, warn_without_gpu

log = logging.getLogger(__name__)

SHOWN = 5  # scratchpads in wandb
GROWS = "algorithm.iterations"  # the learning rate is constant, so a longer run can continue a shorter one
LAST = "last"  # subfolder of a finished run: its last checkpoint, from which a longer run continues
BEFORE = "before"  # folder of evaluations before training, below runs/rlkl
EVALUATED = ("eval/", "critical/")  # prefixes of the metrics of an evaluation


def check(config: FinetuneConfig) -> None:
    """Raise InputError for settings that would fail later."""
    penalty, algorithm = PenaltySettings(**vars(config.penalty)), AlgorithmSettings(**vars(config.algorithm))
    penalty.check()
    algorithm.check()
    algorithm.check_with(penalty)
    config.evaluation.check()
    wandb_mode(config.tracking)
    for name in ("extra_digits", "evaluate_every", "evaluation_examples"):
        if getattr(config, name) < 1:
            raise InputError(f"{name} must be at least 1, not {getattr(config, name)}.")
    if not 0 <= config.easier_share < 1:
        raise InputError(f"easier_share must be at least 0 and below 1, not {config.easier_share}.")


def settings_of(config: FinetuneConfig) -> tuple[Penalty, AlgorithmSettings]:
    """The simplest penalty with the effect of the config's, and the algorithm. Args: config: after `check`."""
    penalty, algorithm = Penalty(**vars(config.penalty)), AlgorithmSettings(**vars(config.algorithm))
    if algorithm.clip_range_uncertain is None:  # it needs the tokens of weight 0
        penalty = penalty.canonical()
    return penalty, algorithm


def identity(config: FinetuneConfig, penalty: Penalty, algorithm: AlgorithmSettings) -> dict[str, Any]:
    """The settings that are hashed: all that have an effect on the run. Args: see `settings_of`."""
    settings = asdict(config) | {"penalty": penalty.effective(), "algorithm": algorithm.effective()}
    if not config.easier_share:
        del settings["easier_share"]  # it is newer than many runs
    return settings


def check_shares(algorithm: AlgorithmSettings, processes: int) -> None:
    """Raise InputError if a process would have no episode in some step."""
    fewest = min(
        algorithm.episodes // algorithm.group_size,
        algorithm.episodes % algorithm.minibatch_size or algorithm.minibatch_size,
    )
    if algorithm.constant_groups != "kept":  # any number of groups may remain
        fewest = min(fewest, math.gcd(algorithm.group_size, algorithm.minibatch_size))
    if fewest < processes:
        raise InputError(
            f"{processes} processes were started, and a step has as few as {fewest} episodes or prompts; start fewer, or set "
            "algorithm.episodes and algorithm.minibatch_size so that each has one."
        )


def warn_if_slow(model: GPT2LMHeadModel) -> None:
    """Warn before a large model is fine-tuned without a GPU."""
    if model.num_parameters() >= LARGE:
        instead = "the models that come with the package take minutes"
        warn_without_gpu(f"fine-tuning {model.num_parameters() / 1e6:.0f} million parameters", "hours to days", instead)


def finetune(config: FinetuneConfig, progress: bool = True) -> dict[str, Any]:
    """Fine-tune a model. A finished run is not repeated; a run with fewer iterations is continued.

    Returns:
        The run's result, and `run_dir`.
    """
    check(config)
    start, reference = load(config)
    if progress:
        warn_if_slow(start)
    penalty, algorithm = settings_of(config)
    accelerator = make_accelerator(algorithm.precision)
    check_shares(algorithm, accelerator.num_processes)
    known_by = identity(config, penalty, algorithm) | {"model": fingerprint(start), "reference": fingerprint(reference)}
    name = f"{algorithm.name}-{penalty.weighting}-seed{config.seed}-{config_hash(known_by)}"
    with accelerator.main_process_first():
        folder = config.run_dir or Path(config.runs) / "rlkl" / "finetune" / name
        run = RunDirectory(folder, known_by, grows=GROWS)

    def compute() -> dict[str, Any]:
        if accelerator.is_main_process:
            _take_over_a_shorter_run(run)
        accelerator.wait_for_everyone()
        learner = Learner(
            start,
            accelerator,
            penalty=penalty,
            algorithm=algorithm,
            extra_digits=config.extra_digits,
            seed=config.seed,
            easier_share=config.easier_share,
            reference=reference,
        )
        try:
            return _finetune(run, config, learner, progress and accelerator.is_main_process)
        except InputError as error:
            raise InputError(f"{run.path}: {error}") from error

    result = run.once(
        compute,
        clean=partial(Checkpoints(run.checkpoints).retire, run.path / LAST),
        main=accelerator.is_main_process,
        wait=accelerator.wait_for_everyone,
    )
    return result | {"run_dir": str(run.path)}


def load(config: FinetuneConfig) -> tuple[GPT2LMHeadModel, GPT2LMHeadModel]:
    """The model to fine-tune, and the reference (by default the same). Raises InputError."""
    start = load_model(config.model)
    reference = start if config.reference is None else load_model(config.reference)
    check_models(config, start, reference)
    return start, reference


def check_models(config: FinetuneConfig, start: GPT2LMHeadModel, reference: GPT2LMHeadModel) -> None:
    """Raise InputError if the models do not belong together, or have too few positions for the digits."""
    check_reference(config.model, start, config.anchor, reference)
    for model in (start, reference):
        check_positions(task_of(model), model.config.n_positions, start.config.trained_digits + config.extra_digits)


def _take_over_a_shorter_run(run: RunDirectory) -> None:
    """Start from the longest sibling run that differs only in having fewer iterations: the result is the same."""
    if run.checkpoints.exists() or (run.path / LAST).exists():
        return
    for shorter in run.shorter_runs(GROWS):
        with suppress(InputError), shorter.locked():  # skip it while another process works there
            if (shorter.path / LAST).is_dir() and shorter.metrics_file.is_file():
                copy = run.path / f".{LAST}"
                shutil.rmtree(copy, ignore_errors=True)
                shutil.copyfile(shorter.metrics_file, run.metrics_file)
                shutil.copytree(shorter.path / LAST, copy)
                copy.rename(run.path / LAST)
                log.info("%s has the same settings and fewer iterations: continuing from its last one", shorter.path)
                return


def _finetune(run: RunDirectory, config: FinetuneConfig, learner: Learner, progress: bool) -> dict[str, Any]:
    accelerator, algorithm = learner.accelerator, learner.algorithm
    evaluation = Progress(learner.task, learner.trained_digits, learner.digits, config.evaluation_examples, config.evaluation)
    checkpoints = Checkpoints(run.checkpoints)
    start = _resume(run, learner)
    total = algorithm.iterations

    def is_evaluated(done: int) -> bool:
        return done == total or done % config.evaluate_every == 0

    bar = tqdm(total=total, initial=start or 0, desc="iterations", disable=not progress, leave=False)
    opened = open_tracker(
        run,
        config.tracking,
        main=accelerator.is_main_process,
        job_type="finetune",
        resume_step=start,
        forget=() if start is None or is_evaluated(start) else EVALUATED,  # it was the last iteration of the shorter run
    )
    with opened as tracker, bar:
        if tracker is not None and start is None:
            tracker.log(0, _before(config, evaluation, learner.model.policy))
        with finishing() as interrupted:
            for number in range(start or 0, total):
                with Stopwatch() as learning:
                    metrics = learner.learn(number)
                done = number + 1
                if tracker is not None:
                    if is_evaluated(done):
                        metrics |= evaluation.scores(learner.model.policy)
                    tokens = algorithm.episodes * metrics["rollout/length"]
                    tracker.log(done, metrics, {"charts/tokens_per_second": tokens / max(learning.seconds, 1e-9)})
                    checkpoints.save(done, learner.model, {"iterations": done, **learner.state()})
                bar.set_postfix_str(f"success {metrics['rollout/success']:.2f}")
                bar.update()
                if anywhere(accelerator, interrupted.is_set()):
                    raise KeyboardInterrupt
        if tracker is not None:
            if tracker.mirrors:
                _log_scratchpads(tracker, learner)
            save_model(run.path / "model", learner.model.policy)
            run.write_result(
                algorithm=algorithm.name,
                penalty=learner.penalty.weighting,
                model=config.model,
                reference=config.anchor,
                evaluation=asdict(config.evaluation) | {"examples": config.evaluation_examples},
                trained_digits=learner.trained_digits,
                digits=learner.digits,
                history=run.metrics(),
            )
    accelerator.wait_for_everyone()
    result = run.result()
    assert result is not None
    return result


def _before(config: FinetuneConfig, evaluation: Progress, policy: GPT2LMHeadModel) -> dict[str, float]:
    """The evaluation before training. It is the same for all runs of a model, so runs in one folder share it."""
    if config.run_dir is not None:  # nothing is written elsewhere
        return evaluation.scores(policy)
    return evaluation.scores_once(policy, Path(config.runs) / "rlkl" / BEFORE)


def _log_scratchpads(tracker: Tracker, learner: Learner) -> None:
    """Log a few greedy answers, coloured by the policy's certainty."""
    policy = learner.model.policy
    problems = sample(learner.task, "varying", learner.digits, SHOWN, seed=1)
    pads = scratchpads(policy, problems, complete(policy, problems), learner.trained_digits)
    rows = [f"<tr><td>{'right' if pad['right'] else 'wrong'}</td><td>{to_html(pad)}</td></tr>" for pad in pads]
    tracker.page("scratchpads", f"<table>{''.join(rows)}</table>")


def _resume(run: RunDirectory, learner: Learner) -> int | None:
    """Load the last checkpoint into the learner: of a killed run, or of a finished one with fewer iterations.

    Returns:
        The number of finished iterations; None if there is no checkpoint.
    """
    for checkpoints in (Checkpoints(run.checkpoints), Checkpoints(run.path / LAST)):
        with learner.accelerator.main_process_first():  # the main process removes a damaged checkpoint
            state = checkpoints.load_last(learner.model, learner.accelerator.device)
        if state is not None:
            with checkpoints.told_when_foreign():
                learner.load_state(state)
                done = int(state["iterations"])
            log.info("continuing after iteration %d of %d", done, learner.algorithm.iterations)
            return done
    if (run.path / "result.json").exists():
        log.warning("%s is missing, so this run cannot be continued: its iterations are made again.", run.path / LAST)
    return None


def metrics_of(result: dict[str, Any]) -> dict[str, float]:
    """The metrics of a run for tables of runs."""
    last = result["history"][-1]
    return {key.removeprefix("eval/"): last[key] for key in last if key.startswith(("eval/", "rollout/success"))}


def task(config: DictConfig) -> dict[str, Any] | None:
    """rlkl-finetune."""
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, FinetuneConfig)
    result = finetune(typed)
    if not PartialState().is_main_process:
        return None
    before, after = result["history"][0], result["history"][-1]
    keys = [key for key in before if key.startswith(EVALUATED)]
    lines = [f"{key.removeprefix('eval/'):30} {before[key]:.3f} -> {after[key]:.3f}" for key in keys]
    print_result("\n".join([*lines, f"run: {result['run_dir']}"]))
    metrics = metrics_of(result)
    return {"run_dir": result["run_dir"], "metrics": metrics, "score": metrics["accuracy_longer"]}
