"""rlkl-finetune: reinforcement learning on longer numbers than the model was pre-trained on.

rlkl-finetune                                        the embedded model on N + 1 digits, A2C, prioritized KL
rlkl-finetune penalty=standard algorithm=grpo seed=1
rlkl-finetune --multirun penalty=none,standard,prioritized,matched_mean seed=0,1,2,3,4
torchrun --nproc-per-node 2 -m rlkl.finetune         two processes (GPUs, where there are any), same episodes
"""

if __name__ == "__main__":  # before what takes seconds to import
    from common.entry import begin

    begin("rlkl")


import logging
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import PartialState
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm
from transformers import GPT2LMHeadModel

from common.checkpoints import Checkpoints
from common.cli import print_result, run_application
from common.interruption import finishing
from common.runs import RunDirectory, config_hash
from common.tracking import Tracker, open_tracker, wandb_mode
from common.training import LARGE, make_accelerator, warn_without_gpu
from rlkl.analysis import scratchpads
from rlkl.config import FinetuneConfig, register
from rlkl.errors import InputError
from rlkl.evaluation import check_positions, complete, sample
from rlkl.language_model import fingerprint, load_model, save_model, task_of
from rlkl.learner import Learner
from rlkl.scratchpad_view import to_html

log = logging.getLogger(__name__)

SHOWN = 5  # scratchpads in wandb


def check(config: FinetuneConfig) -> None:
    """Refuse what could only fail later. Raises InputError."""
    config.penalty.check()
    config.algorithm.check()
    config.algorithm.check_with(config.penalty)
    wandb_mode(config.tracking)
    for name in ("extra_digits", "evaluate_every", "evaluation_examples"):
        if getattr(config, name) < 1:
            raise InputError(f"{name} must be at least 1, not {getattr(config, name)}.")


def check_shares(config: FinetuneConfig, processes: int) -> None:
    """Refuse steps in which a process would have nothing to do. Raises InputError."""
    algorithm = config.algorithm
    fewest = min(
        algorithm.episodes // algorithm.episodes_per_prompt,
        algorithm.episodes % algorithm.minibatch_size or algorithm.minibatch_size,
    )
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
    """Fine-tune as the config says; a finished run is not run again. Returns: the run's result, and `run_dir`."""
    check(config)
    reference = load_model(config.model)
    if progress:
        warn_if_slow(reference)
    check_positions(task_of(reference), reference.config.n_positions, reference.config.trained_digits + config.extra_digits)
    accelerator = make_accelerator(config.algorithm.precision)
    check_shares(config, accelerator.num_processes)
    identity = asdict(config) | {"model": fingerprint(reference)}
    name = f"{config.algorithm.name}-{config.penalty.weighting}-seed{config.seed}-{config_hash(identity)}"
    with accelerator.main_process_first():
        run = RunDirectory(config.run_dir or Path(config.runs) / "rlkl" / "finetune" / name, identity)
    with run.locked() if accelerator.is_main_process else nullcontext():
        result = run.result()
        accelerator.wait_for_everyone()
        if result is None:
            try:
                result = _finetune(run, Learner(config, reference, accelerator), progress and accelerator.is_main_process)
            except InputError as error:
                raise InputError(f"{run.path}: {error}") from error
        if accelerator.is_main_process:
            Checkpoints(run.checkpoints).remove()
        accelerator.wait_for_everyone()
    return result | {"run_dir": str(run.path)}


def _finetune(run: RunDirectory, learner: Learner, progress: bool) -> dict[str, Any]:
    config, accelerator = learner.config, learner.accelerator
    checkpoints = Checkpoints(run.checkpoints)
    start = _resume(checkpoints, learner)
    total = config.algorithm.collects
    bar = tqdm(total=total, initial=start or 0, desc="collects", disable=not progress, leave=False)
    opened = open_tracker(run, config.tracking, main=accelerator.is_main_process, job_type="finetune", resume_step=start)
    with opened as tracker, bar:
        if tracker is not None and start is None:
            tracker.log(0, learner.evaluate())
        with finishing() as interrupted:
            for number in range(start or 0, total):
                metrics = learner.learn(number)
                done = number + 1
                if tracker is not None:
                    if done == total or done % config.evaluate_every == 0:
                        metrics |= learner.evaluate()
                    tracker.log(done, metrics)
                    checkpoints.save(done, learner.model, {"collects": done, **learner.state()})
                bar.set_postfix_str(f"success {metrics['rollout/success']:.2f}")
                bar.update()
                if learner.anywhere(interrupted.is_set()):
                    raise KeyboardInterrupt
        if tracker is not None:
            if tracker.mirrors:
                _log_scratchpads(tracker, learner)
            save_model(run.path / "model", learner.model.policy)
            run.write_result(
                algorithm=config.algorithm.name,
                penalty=config.penalty.weighting,
                model=config.model,
                trained_digits=learner.trained_digits,
                digits=learner.digits,
                history=run.metrics(),
            )
    accelerator.wait_for_everyone()
    result = run.result()
    assert result is not None
    return result


def _log_scratchpads(tracker: Tracker, learner: Learner) -> None:
    """A few greedy answers, coloured by the policy's certainty."""
    policy = learner.model.policy
    problems = sample(learner.task, "varying", learner.digits, SHOWN, seed=1)
    pads = scratchpads(policy, problems, complete(policy, problems), learner.trained_digits)
    rows = [f"<tr><td>{'right' if pad['right'] else 'wrong'}</td><td>{to_html(pad)}</td></tr>" for pad in pads]
    tracker.page("scratchpads", f"<table>{''.join(rows)}</table>")


def _resume(checkpoints: Checkpoints, learner: Learner) -> int | None:
    """Load the last checkpoint into the learner. Returns: after how many collects it was made; None if there is none."""
    with learner.accelerator.main_process_first():  # which removes a damaged one
        state = checkpoints.load_last(learner.model, learner.accelerator.device)
    if state is None:
        return None
    with checkpoints.told_when_foreign():
        learner.load_state(state)
        done = int(state["collects"])
    log.info("continuing after collect %d of %d", done, learner.config.algorithm.collects)
    return done


def metrics_of(result: dict[str, Any]) -> dict[str, float]:
    """What lists of runs say about one."""
    last = result["history"][-1]
    return {key.removeprefix("eval/"): last[key] for key in last if key.startswith(("eval/", "rollout/success"))}


def _task(config: DictConfig) -> dict[str, Any] | None:
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, FinetuneConfig)
    result = finetune(typed)
    if not PartialState().is_main_process:
        return None
    before, after = result["history"][0], result["history"][-1]
    told = [key for key in before if key.startswith(("eval/", "critical/"))]
    lines = [f"{key.removeprefix('eval/'):30} {before[key]:.3f} -> {after[key]:.3f}" for key in told]
    print_result("\n".join([*lines, f"run: {result['run_dir']}"]))
    metrics = metrics_of(result)
    return {"run_dir": result["run_dir"], "metrics": metrics, "score": metrics["accuracy_longer"]}


def main() -> None:
    """The console entry point."""
    register()
    run_application(_task, application="rlkl", config="finetune", schema=FinetuneConfig, bad_input=(InputError,))


if __name__ == "__main__":
    main()
