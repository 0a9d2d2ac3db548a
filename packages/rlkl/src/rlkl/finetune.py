"""rlkl-finetune: reinforcement learning on longer numbers than the model was pre-trained on.

rlkl-finetune                                        the embedded model on N + 1 digits, prioritized KL
rlkl-finetune penalty=standard seed=1
rlkl-finetune --multirun penalty=none,standard,prioritized,matched_mean seed=0,1,2,3,4
"""

import copy
import logging
import math
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from tqdm import tqdm
from transformers import GPT2LMHeadModel

from common.checkpoints import Checkpoints
from common.cli import print_result, run_application
from common.runs import RunDirectory, config_hash
from common.tracking import Tracker, wandb_mode
from common.training import ctrl_c_waits, refuse_several_processes
from rlkl import kl
from rlkl.actor_critic import ActorCritic
from rlkl.algorithms import a2c
from rlkl.config import A2CConfig, FinetuneConfig, register
from rlkl.critical_evaluation import CriticalProbabilities
from rlkl.errors import InputError
from rlkl.evaluation import accuracy, check_positions, grades, roll_out, sample
from rlkl.language_model import fingerprint, load_model, move, save_model, task_of
from rlkl.penalty import Penalty
from rlkl.sequences import Sequences, from_rollouts, next_token_logits, token_log_probs
from rlkl.texts import END_TOKEN, decode
from rlkl.weighting import masked_mean

log = logging.getLogger(__name__)

REWARD, PUNISHMENT = 1.0, -1.0  # as in the paper's public code
SMALLEST_DEVIATION = 0.1  # advantages are not scaled up beyond ten times, where nearly all episodes end alike
BINS = 10  # of the histogram of weights


def loss_terms(
    logits: Tensor,
    values: Tensor,
    reference_logits: Tensor,
    weights: Tensor,
    sequences: Sequences,
    rewards: Tensor,
    scale: float,
    penalty: Penalty,
    algorithm: A2CConfig,
) -> dict[str, Tensor]:
    """The terms of A2C's loss on a batch, each with its coefficient; their sum is the loss.

    Args:
        logits: (B, T, V) of the policy at the sampling temperature.
        values: (B, T) of the critic.
        reference_logits: (B, T, V) at the sampling temperature.
        weights: (B, T) of the KL.
        sequences: B episodes.
        rewards: (B,)
        scale: advantages are divided by it.
    """
    mask, targets = sequences.mask, sequences.targets
    advantages = a2c.gae(rewards, values, mask, algorithm.gamma, algorithm.gae_lambda)
    log_probs = token_log_probs(logits, targets)
    return {
        "policy_loss": a2c.policy_loss(log_probs, advantages / scale, mask),
        "value_loss": algorithm.value_coefficient * a2c.value_loss(values, values.detach() + advantages, mask),
        "kl_loss": penalty.loss(logits, reference_logits, targets, weights, mask),
        "entropy_loss": -algorithm.entropy_coefficient * masked_mean(a2c.entropy(logits), mask),
    }


class Finetuning:
    """One run: a policy, its reference, and the loop around them.

    Args:
        config: what to do.
        reference: the pre-trained model; the policy starts as a copy of it.
        device: where to train.
    """

    def __init__(self, config: FinetuneConfig, reference: GPT2LMHeadModel, device: torch.device) -> None:
        self.config, self.device = config, device
        self.task = task_of(reference)
        self.trained_digits: int = reference.config.trained_digits
        self.digits = self.trained_digits + config.extra_digits
        torch.manual_seed(config.seed)
        self.model = ActorCritic(copy.deepcopy(reference)).to(device)
        self.reference = move(reference.requires_grad_(False), device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.algorithm.learning_rate)
        self.critical = CriticalProbabilities(
            self.task, sample(self.task, "identical", self.digits, config.evaluation_examples, seed=0), self.trained_digits
        )

    def collect(self, number: int) -> tuple[Sequences, Tensor]:
        """Let the policy calculate, and grade it. Returns: the episodes, and (B,) their rewards."""
        algorithm = self.config.algorithm
        rng = Random(f"{self.config.seed}-{number}")
        operands = [self.task.longer(self.trained_digits, self.digits, rng) for _ in range(algorithm.episodes)]
        generator = torch.Generator().manual_seed(rng.getrandbits(63))
        prompts, rollouts = roll_out(self.model.policy, operands, algorithm.temperature, generator)
        right = torch.tensor(grades(self.task, operands, decode(rollouts)))
        rewards = torch.where(right, REWARD, PUNISHMENT)
        return from_rollouts(prompts, rollouts, END_TOKEN).to(self.device), rewards.to(self.device)

    def update(self, number: int, episodes: Sequences, rewards: Tensor) -> dict[str, float]:
        """One pass over a collect in minibatches. Returns: means over the minibatches."""
        algorithm, penalty = self.config.algorithm, self.config.penalty
        with torch.no_grad():
            reference_logits = next_token_logits(self.reference, episodes)  # (B, T, V)
        weights = penalty.weights(reference_logits, episodes.mask)  # (B, T), of the whole collect
        scale = max(rewards.std().item(), SMALLEST_DEVIATION)
        order = torch.randperm(len(rewards), generator=torch.Generator().manual_seed(self.config.seed * 1_000_003 + number))
        batches = order.split(algorithm.minibatch_size)
        means: dict[str, float] = {}
        for rows in batches:
            batch = episodes[rows]
            width = batch.inputs.shape[1]
            logits, values = self.model(batch)
            logits = logits / algorithm.temperature
            there = reference_logits[rows, :width] / algorithm.temperature
            terms = loss_terms(logits, values, there, weights[rows, :width], batch, rewards[rows], scale, penalty, algorithm)
            loss = torch.stack(list(terms.values())).sum()
            self._refuse_not_finite("loss", loss.item(), number)
            self.optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), algorithm.max_grad_norm)
            self._refuse_not_finite("gradient", norm.item(), number)
            self.optimizer.step()
            with torch.no_grad():
                terms["kl"] = masked_mean(kl.exact(logits, there), batch.mask)
                terms["entropy"] = masked_mean(a2c.entropy(logits), batch.mask)
                terms["grad_norm"] = norm
            for name, term in terms.items():
                means[f"losses/{name}"] = means.get(f"losses/{name}", 0.0) + term.item() / len(batches)
        return means | weight_statistics(weights[episodes.mask])

    def _refuse_not_finite(self, what: str, value: float, number: int) -> None:
        if not math.isfinite(value):
            raise InputError(
                f"the {what} became {value} in collect {number + 1} of {self.config.algorithm.collects}; the last checkpoint "
                "is kept. Try a smaller algorithm.learning_rate."
            )

    def evaluate(self) -> dict[str, float]:
        """Greedy accuracy on N and on more digits, and the probability of the right character on critical commas."""
        policy, examples = self.model.policy.eval(), self.config.evaluation_examples
        scores = {
            "eval/accuracy_N": accuracy(policy, sample(self.task, "varying", self.trained_digits, examples, seed=0)),
            "eval/accuracy_longer": accuracy(policy, sample(self.task, "varying", self.digits, examples, seed=0)),
        }
        return scores | self.critical.scores(policy)


def weight_statistics(weights: Tensor) -> dict[str, float]:
    """The mean of the KL's weights and their histogram over [0, 1]. Args: weights (tokens,)."""
    counts = torch.histc(weights.float().cpu(), BINS, 0.0, 1.0) / len(weights)
    histogram = {f"weights/share_{low / BINS:.1f}_{(low + 1) / BINS:.1f}": share for low, share in enumerate(counts.tolist())}
    return {"weights/mean": weights.mean().item(), **histogram}


def check(config: FinetuneConfig) -> None:
    """Refuse what could only fail later. Raises InputError."""
    refuse_several_processes()
    config.penalty.check()
    config.algorithm.check()
    wandb_mode(config.tracking)
    for name in ("extra_digits", "evaluate_every", "evaluation_examples"):
        if getattr(config, name) < 1:
            raise InputError(f"{name} must be at least 1, not {getattr(config, name)}.")


def finetune(config: FinetuneConfig, progress: bool = True) -> dict[str, Any]:
    """Fine-tune as the config says; a finished run is not run again. Returns: the run's result, and `run_dir`."""
    check(config)
    reference = load_model(config.model)
    check_positions(task_of(reference), reference.config.n_positions, reference.config.trained_digits + config.extra_digits)
    identity = asdict(config) | {"model": fingerprint(reference)}
    name = f"{config.penalty.weighting}-seed{config.seed}-{config_hash(identity)}"
    run = RunDirectory(config.run_dir or Path(config.runs) / "rlkl" / "finetune" / name, identity)
    with run.locked():
        result = run.result()
        if result is None:
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            try:
                result = _finetune(run, config, Finetuning(config, reference, device), progress)
            except InputError as error:
                raise InputError(f"{run.path}: {error}") from error
        Checkpoints(run.checkpoints).remove()
    return result | {"run_dir": str(run.path)}


def _finetune(run: RunDirectory, config: FinetuneConfig, work: Finetuning, progress: bool) -> dict[str, Any]:
    checkpoints = Checkpoints(run.checkpoints)
    state = checkpoints.load_last(work.model, work.device)
    start = 0 if state is None else state["collects"]
    if state is not None:
        work.optimizer.load_state_dict(state["optimizer"])
        log.info("continuing after collect %d of %d", start, config.algorithm.collects)
    tracker = Tracker(
        run, config.tracking, job_type="finetune", name=run.path.name, resume_step=None if state is None else start
    )
    total = config.algorithm.collects
    bar = tqdm(total=total, initial=start, desc="collects", disable=not progress, leave=False)
    with tracker, bar, ctrl_c_waits() as interrupted:
        if state is None:
            tracker.log(0, work.evaluate())
        for number in range(start, total):
            episodes, rewards = work.collect(number)
            success = (rewards == REWARD).float().mean().item()
            if number == 0:
                work.model.set_value(rewards.mean().item())
            metrics = {"rollout/success": success, "rollout/length": episodes.mask.sum(1).float().mean().item()}
            metrics |= work.update(number, episodes, rewards)
            done = number + 1
            if done == total or done % config.evaluate_every == 0:
                metrics |= work.evaluate()
            tracker.log(done, metrics)
            bar.set_postfix_str(f"success {success:.2f}")
            bar.update()
            checkpoints.save(done, work.model, {"collects": done, "optimizer": work.optimizer.state_dict()})
            if interrupted.is_set():
                raise KeyboardInterrupt
    save_model(run.path / "model", work.model.policy)
    return run.write_result(
        penalty=config.penalty.weighting,
        trained_digits=work.trained_digits,
        digits=work.digits,
        history=run.metrics(),
    )


def _task(config: DictConfig) -> None:
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, FinetuneConfig)
    result = finetune(typed)
    before, after = result["history"][0], result["history"][-1]
    lines = [f"{key.removeprefix('eval/'):30} {before[key]:.3f} -> {after[key]:.3f}" for key in before if key != "step"]
    print_result("\n".join([*lines, f"run: {result['run_dir']}"]))


def main() -> None:
    """The console entry point."""
    register()
    run_application(_task, application="rlkl", config="finetune", bad_input=(InputError,))


if __name__ == "__main__":
    main()
