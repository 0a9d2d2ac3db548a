"""The learner: a policy and its reference. It samples episodes and updates the policy."""

import copy
from collections.abc import Sequence
from random import Random
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed
from torch import Tensor
from transformers import GPT2LMHeadModel

from rlkl import kl
from rlkl.algorithms import a2c, ppo
from rlkl.algorithms.by_name import ALGORITHMS
from rlkl.algorithms.groups import constant_groups
from rlkl.distributions import entropy, token_log_probs
from rlkl.finetuning.experience import Experience, Scores, learn_from, score
from rlkl.model.actor_critic import ActorCritic
from rlkl.model.completion import grades
from rlkl.model.language_model import move, task_of
from rlkl.model.sequences import Sequences, from_samples, joined
from rlkl.model.texts import END_TOKEN, decode, drafts, encode, longest_completion
from rlkl.penalty import Penalty, adapted
from rlkl.rollout.engine import generate
from rlkl.settings import AlgorithmSettings
from rlkl.tasks.operands import Operands
from rlkl.weighting import masked_mean
from rlkl_htc_common.training.step import make_step

REWARD, PUNISHMENT = 1.0, -1.0  # as in the paper's public code
BINS = 10  # of the histogram of weights


def loss_terms(
    logits: Tensor,
    values: Tensor,
    batch: Experience,
    penalty: Penalty,
    alpha: float,
    algorithm: AlgorithmSettings,
    tokens: Tensor,
    learning_tokens: Tensor,
    kl_tokens: Tensor | None = None,
) -> dict[str, Tensor]:
    """The terms of the loss, each with its coefficient; their sum is the loss.

    Args:
        logits: (B, T, V) of the policy, divided by the sampling temperature.
        values: (B, T) of the critic.
        batch: B episodes, all episodes of a step or a part.
        alpha: the coefficient of the KL.
        tokens, learning_tokens: the number of tokens of the step, and of the units that the policy loss is averaged over
            (`Algorithm.units`): tokens with a policy loss, or episodes.
        kl_tokens: the number of tokens with a KL, if the mean is over these (`Penalty.mean_over`); default: those of the batch.

    Logits and values of masked tokens may have any value, finite or not, and get no gradient.
    """
    mask, targets = batch.sequences.mask, batch.sequences.targets
    logits = logits.masked_fill(~mask[..., None], 0.0)
    method = ALGORITHMS[algorithm.name]
    log_probs = token_log_probs(logits, targets)
    weights = current_weights(logits, batch, penalty)
    low, high = clip_ranges(weights, algorithm)
    terms = {
        "policy_loss": method.policy_loss(
            log_probs, batch.log_probs, batch.advantages, batch.learns, low, learning_tokens, high
        ),
        "entropy_loss": -algorithm.entropy_coefficient * masked_mean(entropy(logits), mask, tokens),
    }
    if algorithm.has_critic:
        terms["value_loss"] = algorithm.value_coefficient * a2c.value_loss(values, batch.returns, mask, tokens)
    if penalty.placement == "loss":
        total = tokens if penalty.mean_over == "all" else kl_tokens
        if penalty.off_clipped:
            log_ratio = method.log_ratio(log_probs, batch.log_probs, mask)
            stopped = ppo.clipped(log_ratio, batch.advantages, low, low if high is None else high)
            weights = weights.masked_fill(stopped, 0.0)
        terms["kl_loss"] = _kl_loss(logits, batch, weights, penalty, alpha, algorithm, total)
    return terms


def _kl_loss(
    logits: Tensor,
    batch: Experience,
    weights: Tensor,
    penalty: Penalty,
    alpha: float,
    algorithm: AlgorithmSettings,
    total: Tensor | None,
) -> Tensor:
    if alpha == 0:  # 0 times an infinite KL would be NaN
        return logits.new_zeros(())
    reference_logits = batch.reference_logits / algorithm.temperature
    targets, mask = batch.sequences.targets, batch.sequences.mask
    return alpha * penalty.loss(logits, reference_logits, targets, weights, mask, total, batch.log_probs)


def current_weights(logits: Tensor, batch: Experience, penalty: Penalty) -> Tensor:
    """The weights of the KL at a step, (B, T): those of the experience, or anew if they depend on the current policy.

    Args: logits: (B, T, V) of the policy, divided by the sampling temperature.
    """
    if penalty.certainty_of != "current":
        return batch.weights
    mask = batch.sequences.mask
    off = ((batch.weights == 0) | ~mask).all(1, keepdim=True)  # episodes without any KL, such as those of constant groups
    return penalty.weights(batch.reference_logits, mask, entropies=entropy(logits.detach())).masked_fill(off, 0.0)


def clip_ranges(weights: Tensor, algorithm: AlgorithmSettings) -> tuple[float | Tensor, float | Tensor | None]:
    """The clip ranges below and above; (B, T) if tokens without KL have another one. None above: as below.

    Args: weights: (B, T) of the KL.
    """
    if algorithm.clip_range_uncertain is None:
        return algorithm.clip_range, algorithm.clip_range_high
    low = torch.where(weights == 0, algorithm.clip_range_uncertain, algorithm.clip_range)
    if algorithm.clip_range_high is None:
        return low, None
    return low, torch.where(weights == 0, algorithm.clip_range_uncertain, algorithm.clip_range_high)


class Learner:
    """Trains a policy, in one or several processes.

    Several processes split the episodes for sampling, scoring and gradients. All have the same weights; they equal those of a
    single process up to rounding.

    Args:
        start: the initial model; the policy is a copy of it.
        accelerator: device, precision and processes.
        penalty, algorithm: the settings of the loss and of the steps.
        extra_digits: the number of digits beyond those of pre-training.
        easier_share: the share of problems of at most as many digits as in pre-training, drawn like those.
        seed: of problems, samples and the order of minibatches.
        reference: the reference of the KL, whose certainty weights it; None for `start`.
    """

    def __init__(
        self,
        start: GPT2LMHeadModel,
        accelerator: Accelerator,
        *,
        penalty: Penalty,
        algorithm: AlgorithmSettings,
        extra_digits: int,
        seed: int,
        easier_share: float = 0.0,
        reference: GPT2LMHeadModel | None = None,
    ) -> None:
        self.accelerator, self.penalty, self.algorithm, self.seed = accelerator, penalty, algorithm, seed
        self.task = task_of(start)
        self.trained_digits: int = start.config.trained_digits
        self.digits = self.trained_digits + extra_digits
        self.easier_share = easier_share
        self.alpha = penalty.alpha
        set_seed(seed)  # Python's and NumPy's, too: a checkpoint holds the state of all
        self.model = ActorCritic(copy.deepcopy(start).requires_grad_(True)).to(accelerator.device)
        self._half: GPT2LMHeadModel | None = None  # the policy in bfloat16
        self.reference = move((start if reference is None else reference).requires_grad_(False), accelerator.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=algorithm.learning_rate)

    def learn(self, number: int) -> dict[str, float]:
        """Do one iteration: sample episodes and update the policy. Returns: metrics to log."""
        episodes, rewards = self.sample_episodes(number)
        if number == 0:
            self.model.set_value(rewards.mean().item())
        lengths = episodes.mask.sum(1).float()
        of_rollout = {"rollout/success": (rewards == REWARD).float().mean().item(), "rollout/length": lengths.mean().item()}
        if self.algorithm.constant_groups == "kept":
            return of_rollout | self.update(number, episodes, rewards)
        constant = constant_groups(rewards, self.algorithm.group_size).float().mean().item()
        of_rollout |= {"rollout/constant_groups": constant}
        found = self._of_varied_groups(number, episodes, rewards)
        return of_rollout if found is None else of_rollout | self.update(number, *found)

    def _of_varied_groups(self, number: int, episodes: Sequences, rewards: Tensor) -> tuple[Sequences, Tensor] | None:
        """The episodes of groups with different rewards; with `resampled`, of further samples too.

        Returns: at most as many episodes as were given, adjacent per prompt, and (B,) rewards. None if there is no such group.
        """
        wanted, resamples = len(rewards), 0
        if self.algorithm.constant_groups == "resampled":
            resamples = self.algorithm.resamples or 0
        found: list[Sequences] = []
        of_found = rewards[:0]
        for again in range(1 + resamples):
            if again:
                episodes, rewards = self.sample_episodes(number, again)
            rows = (~constant_groups(rewards, self.algorithm.group_size)).nonzero().squeeze(1)[: wanted - len(of_found)]
            if len(rows):
                found.append(episodes[rows])
                of_found = torch.cat([of_found, rewards[rows]])
            if len(of_found) == wanted:
                break
        return (joined(found, END_TOKEN), of_found) if found else None

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint, without the weights."""
        return {"optimizer": self.optimizer.state_dict(), "alpha": self.alpha}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load the state of a checkpoint."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.alpha = state["alpha"]

    def sample_episodes(self, number: int, again: int = 0) -> tuple[Sequences, Tensor]:
        """Sample and grade the episodes of an iteration. Returns: B episodes, adjacent per prompt, and (B,) rewards.

        Args: again: 0, or which further sample of the same iteration.
        """
        device = self.accelerator.device
        rng = Random(f"{self.seed}-{number}-{again}" if again else f"{self.seed}-{number}")
        group = self.algorithm.group_size
        problems = [self._problem(rng) for _ in range(self.algorithm.episodes // group)]
        samples = self._roll_out(problems, torch.Generator().manual_seed(rng.getrandbits(63)))
        operands = [pair for pair in problems for _ in range(group)]
        right = torch.tensor(grades(self.task, operands, decode(samples)))
        rewards = torch.where(right, REWARD, PUNISHMENT)
        return from_samples(encode(map(self.task.prompt, operands)), samples, END_TOKEN).to(device), rewards.to(device)

    def _problem(self, rng: Random) -> Operands:
        if self.easier_share and rng.random() < self.easier_share:
            return self.task.balanced(self.trained_digits, rng)
        return self.task.longer(self.trained_digits, self.digits, rng)

    def _roll_out(self, problems: Sequence[Operands], generator: torch.Generator) -> list[list[int]]:
        """Sample completions, each process for its share of prompts. Results do not depend on the number of processes."""
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        group = self.algorithm.group_size
        prompts = encode(map(self.task.prompt, problems))
        longest = longest_completion(self.task, problems)
        noise = torch.rand(longest, len(prompts), group, dtype=torch.float64, generator=generator)  # (T, P, G)
        rollouts = generate(
            self.acting(),
            prompts[rank::processes],
            max_new_tokens=longest,
            end_token=END_TOKEN,
            temperature=self.algorithm.temperature,
            noise=noise[:, rank::processes].flatten(1),
            samples_per_prompt=group,
            draft=drafts(self.task, [pair for pair in problems[rank::processes] for _ in range(group)]),
        )
        mine = rollouts.samples()
        if processes == 1:
            return mine
        shares = gather_object([mine])
        of_prompt = [shares[prompt % processes][prompt // processes * group :][:group] for prompt in range(len(prompts))]
        return [sample for samples in of_prompt for sample in samples]

    @torch.no_grad()
    def acting(self) -> GPT2LMHeadModel:
        """The policy in the precision of rollouts; always the same object, because the compiled step belongs to it."""
        if self.algorithm.precision == "fp32":
            return self.model.policy
        if self._half is None:
            self._half = copy.deepcopy(self.model.policy).requires_grad_(False)
            torch.nn.Module.to(self._half, torch.bfloat16)
        for half, whole in zip(self._half.parameters(), self.model.policy.parameters(), strict=True):
            half.copy_(whole)
        return self._half

    def score(self, episodes: Sequences) -> Scores:
        """Score episodes with policy, critic and reference. Each process does its share; all get the result."""
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        mine = torch.arange(len(episodes.lengths), device=self.accelerator.device)[rank::processes]
        whole: dict[str, Tensor] = {}
        for rows in mine.split(self._at_a_time):
            with self.accelerator.autocast():
                part = score(episodes[rows], self.model, self.reference, self.penalty, self.algorithm.temperature)
            for name, values in vars(part).items():  # (b, t, ...)
                shape = (*episodes.inputs.shape, *values.shape[2:])
                whole.setdefault(name, values.new_zeros(shape))[rows, : values.shape[1]] = values
        return Scores(**{name: self.accelerator.reduce(values, "sum") for name, values in whole.items()})

    @property
    def _at_a_time(self) -> int:
        return self.algorithm.micro_batch_size or self.algorithm.minibatch_size

    def update(self, number: int, episodes: Sequences, rewards: Tensor) -> dict[str, float]:
        """Update the policy with the episodes of an iteration. Returns: metrics, as means over the steps."""
        algorithm, penalty = self.algorithm, self.penalty
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        experience = learn_from(episodes, rewards, self.score(episodes), penalty, self.alpha, algorithm, generator)
        steps = [
            self._step(experience, rows, number)
            for _ in range(algorithm.passes)
            for rows in torch.randperm(len(rewards), generator=generator).split(algorithm.minibatch_size)
        ]
        means = {f"losses/{name}": sum(step[name] for step in steps) / len(steps) for name in steps[0]}
        return means | weight_statistics(experience.weights[episodes.mask]) | {"losses/alpha": self.alpha}

    def _step(self, experience: Experience, rows: Tensor, number: int) -> dict[str, float]:
        """One optimizer step on a minibatch. Args: rows (b,) of the experience. Returns: the terms of its loss."""
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        rows = rows.to(self.accelerator.device)
        batch = experience[rows]
        tokens, learning_tokens = batch.sequences.mask.sum(), ALGORITHMS[self.algorithm.name].units(batch.learns)
        kl_tokens = self.penalty.averaged_over(batch.weights, batch.sequences.mask)
        sums: dict[str, Tensor] = {}
        for part in rows[rank::processes].split(self._at_a_time):
            for name, value in self._differentiate(experience[part], tokens, learning_tokens, kl_tokens).items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value
        self._add_up_gradients()
        totals = self.accelerator.reduce(torch.stack(list(sums.values())), "sum").tolist()
        terms: dict[str, float] = dict(zip(sums, totals, strict=True))
        norm = make_step(
            self.accelerator,
            self.model.parameters(),
            [self.optimizer],
            loss=terms["loss"],
            max_grad_norm=self.algorithm.max_grad_norm,
            place=f"in iteration {number + 1} of {self.algorithm.iterations}",
            setting="algorithm.learning_rate",
        )
        if self.penalty.target_kl is not None:
            self.alpha = adapted(self.alpha, terms["kl"], self.penalty.target_kl)
        return terms | {"grad_norm": norm}

    def _differentiate(self, part: Experience, tokens: Tensor, learning_tokens: Tensor, kl_tokens: Tensor) -> dict[str, Tensor]:
        """Accumulate the gradient of some episodes. Returns: their share of each term of the step."""
        algorithm, penalty = self.algorithm, self.penalty
        with self.accelerator.autocast():
            logits, values = self.model(part.sequences)
        logits = logits / algorithm.temperature
        terms = loss_terms(logits, values, part, penalty, self.alpha, algorithm, tokens, learning_tokens, kl_tokens)
        loss = torch.stack(list(terms.values())).sum()
        loss.backward()
        mask = part.sequences.mask
        with torch.no_grad():
            log_probs = token_log_probs(logits, part.sequences.targets)
            terms |= {
                "loss": loss,
                "kl": masked_mean(kl.exact(logits, part.reference_logits / algorithm.temperature), mask, tokens),
                "entropy": masked_mean(entropy(logits), mask, tokens),
            }
            if algorithm.clips:
                log_ratio = ALGORITHMS[algorithm.name].log_ratio(log_probs, part.log_probs, mask)
                beyond = ppo.outside(log_ratio, *clip_ranges(current_weights(logits, part, penalty), algorithm))
                terms["clip_fraction"] = masked_mean(beyond.float().expand_as(mask), mask, tokens)
        return {name: term.detach() for name, term in terms.items()}

    def _add_up_gradients(self) -> None:
        if self.accelerator.num_processes == 1:
            return
        parameters = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        flat = torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None])
        summed = self.accelerator.reduce(flat, "sum").split([parameter.numel() for parameter in parameters])
        for parameter, gradient in zip(parameters, summed, strict=True):
            parameter.grad = gradient.view_as(parameter)


def weight_statistics(weights: Tensor) -> dict[str, float]:
    """The mean and the histogram over [0, 1] of the KL's weights. Args: weights (tokens,)."""
    counts = torch.histc(weights.float().cpu(), BINS, 0.0, 1.0) / len(weights)
    histogram = {f"weights/share_{low / BINS:.1f}_{(low + 1) / BINS:.1f}": share for low, share in enumerate(counts.tolist())}
    return {"weights/mean": weights.mean().item(), **histogram}
