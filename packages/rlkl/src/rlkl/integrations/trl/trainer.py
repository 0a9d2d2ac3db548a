"""GRPOTrainer with a KL weighted by the reference's certainty.

TRL's loss is not copied. It multiplies the KL of each token by `self.beta`. During the loss, `self.beta` is a `Coefficient`,
which weights the KL and counts the multiplications. If a TRL computes its loss in another way, an error is raised; it never
trains with a uniform KL. `via="advantages"` changes only the advantages, as TRL expects of subclasses.
"""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from trl import GRPOTrainer

from rlkl import kl
from rlkl.algorithms.groups import constant_groups
from rlkl.algorithms.ppo import clipped
from rlkl.certainty import from_entropy
from rlkl.integrations.trl.calibrate import Calibration, asked, calibrate
from rlkl.integrations.trl.config import PrioritizedKLConfig
from rlkl.integrations.trl.reference import completion_logits, give_entropies, in_parts, outputs_of, vocabulary_of
from rlkl.integrations.trl.versions import check_unchanged, fused_lm_head
from rlkl.integrations.trl.weights import CERTAINTIES, Weights, statistics, zero_sum_coefficients
from rlkl.weighting import to_the_end, top_share_of_rows, window_means
from rlkl_htc_common.errors import InputError

logger = logging.getLogger(__name__)
CALIBRATION_FILE = "kl_calibration.json"
WITHOUT_CERTAINTY = ("standard", "none", "top_entropy")


class Coefficient(float):
    """The coefficient of the KL: it weights the KL before it multiplies it."""

    weigh: Callable[[Tensor], Tensor]
    uses: int

    def __new__(cls, value: float, weigh: Callable[[Tensor], Tensor]) -> "Coefficient":
        """Args: weigh: from KL (B, T) to weighted KL (B, T)."""
        coefficient = super().__new__(cls, value)
        coefficient.weigh, coefficient.uses = weigh, 0
        return coefficient

    def __mul__(self, divergence: Tensor) -> Tensor:  # type: ignore[override]
        self.uses += 1
        return float(self) * self.weigh(divergence)


@dataclass
class Passes:
    """The outputs of the models' passes in one of TRL's methods; entries of one pass have the same index."""

    of_reference: bool
    log_probs: list[Tensor] = field(default_factory=list)  # (B, T)
    entropies: list[Tensor | None] = field(default_factory=list)  # (B, T)
    certainties: list[Tensor | None] = field(default_factory=list)  # (B, T)
    logits: list[Tensor | None] = field(default_factory=list)  # (B, T, V), for the exact KL


class PrioritizedKLTrainer(GRPOTrainer):
    """TRL's GRPOTrainer with a weighted KL. Same arguments as GRPOTrainer, with a `PrioritizedKLConfig` as `args`.

    Attributes:
        calibration: the result of `weight_share`, once training has started; None without it.

    Raises:
        InputError: for settings that would train with other weights than requested.
    """

    beta: float

    def __init__(self, model: Any, reward_funcs: Any = None, args: Any = None, *others: Any, **named: Any) -> None:
        check_unchanged(GRPOTrainer)
        if not isinstance(args, PrioritizedKLConfig):
            given = "nothing" if args is None else f"a {type(args).__name__}"
            raise InputError(f"args must be a PrioritizedKLConfig, but {given} was given, which has no weighting.")
        args.check_kl()
        self._passes: Passes | None = None
        self._rewards: Tensor | None = None
        self.calibration: Calibration | None = None
        super().__init__(model, reward_funcs, args, *others, **named)
        if self.beta != 0:
            self._check_setting()
            renyi2, shared = args.certainty == "renyi2", self.ref_model is None  # PEFT: the policy's has Shannon's entropy
            if self._needs_certainty and self._free and (renyi2 or not shared):
                reference = self.model if shared else self.accelerator.unwrap_model(self.ref_model)
                give_entropies(reference, self.temperature, args.cast_lm_head_to_fp32, renyi2)

    def _check_setting(self) -> None:
        if self._is_vlm:
            raise InputError("The weighted KL was tried with text only, and this model takes images. Use GRPOTrainer.")
        own_pass = self.args.kl_estimator == "exact" or (self._needs_certainty and not self._free)
        if (self.is_fsdp_enabled or self.is_deepspeed_enabled) and (own_pass or self.args.share is not None):
            raise InputError(
                "weight_share, kl_estimator='exact' and certainties that TRL does not compute itself take passes of their own, "
                "which were not tried while FSDP or DeepSpeed shards the models. Use weight_exponent (trainer.calibration has "
                "it after a run of one process), negentropy at the sampling temperature, and another estimator."
            )
        if self.args.share is None:
            return
        if self.tools or self.environment_factories is not None or self.rollout_func is not None:
            raise InputError(
                "weight_share is measured on plain completions of the reference, which say little of those with tools, "
                "environments or a rollout function. Give weight_exponent."
            )

    @property
    def _needs_certainty(self) -> bool:
        return self.args.kl_weighting not in WITHOUT_CERTAINTY

    @property
    def _free(self) -> bool:
        """Whether TRL's pass of the reference gives the entropy for the certainty."""
        given = ("negentropy", "renyi2") if fused_lm_head() else ("negentropy",)
        return self.args.certainty in given and self.args.certainty_temperature == self.temperature

    @contextmanager
    def _watched(self, of_reference: bool) -> Iterator[Passes]:
        self._passes = Passes(of_reference)
        try:
            yield self._passes
        finally:
            self._passes = None

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Any, attention_mask: Any, logits_to_keep: int, *others: Any, **named: Any
    ) -> Any:
        passes = self._passes
        said = partial(super()._get_per_token_logps_and_entropies, model, input_ids, attention_mask, logits_to_keep, *others)
        if passes is None:
            return said(**named)
        certainty = logits = None
        # with PEFT, policy and reference are one model: TRL's output shows later which pass was the reference's
        if passes.of_reference and (self.ref_model is None or model is self.ref_model):
            result, certainty = self._with_certainty(model, said, named, logits_to_keep)
            exact = self.args.kl_estimator == "exact"
            if exact or (self._needs_certainty and certainty is None):
                certainty, logits = self._by_own_pass(model, input_ids, attention_mask, logits_to_keep, exact)
        else:
            result = said(**named)
        passes.log_probs.append(result[0])
        passes.entropies.append(result[1])
        passes.certainties.append(certainty)
        passes.logits.append(logits)
        return result

    def _with_certainty(
        self, model: Any, said: Callable[..., Any], named: dict[str, Any], length: int
    ) -> tuple[Any, Tensor | None]:
        """TRL's pass, and the certainty (B, T) if that pass gives it."""
        if not (self._needs_certainty and self._free):
            return said(**named), None
        vocabulary, renyi2 = vocabulary_of(self.accelerator.unwrap_model(model)), self.args.certainty == "renyi2"
        watched: AbstractContextManager[list[Any]] = outputs_of(model) if renyi2 else nullcontext([])
        with watched as outputs:
            result = said(**{**named, "compute_entropy": True})
        if renyi2:
            return result, from_entropy(-torch.cat([part.log_sum_sq_probs[:, -length:] for part in outputs]), vocabulary)
        entropies = result[1]
        precise = entropies.dtype == torch.float32  # before TRL 1.15, they have the precision of the logits
        return result, from_entropy(entropies, vocabulary) if precise else None

    def _by_own_pass(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, length: int, keep: bool
    ) -> tuple[Tensor, Tensor | None]:
        """The certainty (B, T), and with `keep` the logits (B, T, V), by an extra pass, a few rows at a time."""
        measure, temperature = CERTAINTIES[self.args.certainty], self.args.certainty_temperature
        vocabulary = vocabulary_of(self.accelerator.unwrap_model(model))
        certainties, kept = [], []
        with torch.no_grad():
            for rows in in_parts(len(input_ids), length * vocabulary):
                logits = completion_logits(model, input_ids[rows], attention_mask[rows], length, self.accelerator)
                certainties.append(measure(logits, temperature))
                kept += [logits] if keep else []
        return torch.cat(certainties), torch.cat(kept) if keep else None

    def certainty_of(self, model: Any, input_ids: Tensor, attention_mask: Tensor, length: int) -> Tensor:
        """The reference's certainty of completion tokens, (B, T).

        Args:
            model: the reference; with PEFT, the model with the reference's adapters.
            input_ids, attention_mask: (B, L) prompts and completions.
            length: T, of the completions.
        """
        with self._watched(of_reference=True) as passes, torch.no_grad():
            batch_size = self.args.per_device_train_batch_size
            self._get_per_token_logps_and_entropies(model, input_ids, attention_mask, length, batch_size=batch_size)
        (certainty,) = passes.certainties
        assert certainty is not None
        return certainty

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        if self.beta == 0:
            return super()._generate_and_score_completions(inputs)
        if self.args.share is not None and self.calibration is None:
            self.calibration = calibrate(self)
            logger.info("The reference's certainty, measured before training: %s", self.calibration)
        with self._watched(of_reference=True) as passes:
            output = super()._generate_and_score_completions(inputs)
        reference = output.get("ref_per_token_logps")
        places = [place for place, log_probs in enumerate(passes.log_probs) if log_probs is reference]
        if len(places) != 1:
            raise _moved(f"{len(places)} passes gave the log-probabilities of the reference, not one")
        output["kl_weights"] = self._weights(passes.certainties[places[0]], output)
        if self.args.kl_estimator == "exact":
            output["ref_logits"] = passes.logits[places[0]]
        if self.args.via != "loss":
            output["advantages"] = self._advantages_with_kl(output)
        return output

    def _weights(self, certainty: Tensor | None, output: dict[str, Any]) -> Tensor:
        """(B, T) the weights of completions, before the parts that need the loss."""
        mask, log_probs, args = _mask(output), output["ref_per_token_logps"], self.args
        if certainty is None or not self._needs_certainty:  # the exact KL's pass also gives a certainty
            weights = torch.zeros_like(log_probs) if args.kl_weighting == "none" else torch.ones_like(log_probs)
        else:
            exponent, measured = args.weight_exponent, None
            if self.calibration is not None:
                exponent, measured = self.calibration.exponent, certainty.new_tensor(self.calibration.certainties)
            how = Weights(args.kl_weighting, exponent, args.token_share, measured, args.share)
            step = self.state.global_step * args.gradient_accumulation_steps + self._step % args.gradient_accumulation_steps
            weights = how.of(certainty, mask, self.accelerator, seed=1_000_003 * args.seed + step)
            if exponent is not None:
                self._metrics[self._mode]["kl_weighting/exponent"].append(exponent)
        if args.kl_off_constant_groups:
            weights = weights.masked_fill(self._in_constant_groups(len(weights))[:, None], 0.0)
        return weights

    def _calculate_rewards(self, *given: Any, **named: Any) -> Tensor:
        self._rewards = super()._calculate_rewards(*given, **named)  # (N, functions) of all processes
        return self._rewards

    def _in_constant_groups(self, rows: int) -> Tensor:
        """(B,) bool, completions of this process whose group has equal rewards."""
        if self._rewards is None:
            raise _moved("no rewards were computed")
        scores = self._rewards
        if self.args.multi_objective_aggregation == "sum_then_normalize":
            unscored = scores.isnan().all(1)
            scores = (scores * self.reward_weights.to(scores.device)).nansum(1).masked_fill(unscored, torch.nan)[:, None]
        constant = torch.stack([constant_groups(column, self._completions) for column in scores.unbind(1)]).all(0)
        return constant[self.accelerator.process_index * rows :][:rows]

    @property
    def _completions(self) -> int:
        """The number of completions per group."""
        return int(self.num_generations if self._mode == "train" else self.num_generations_eval)

    def _advantages_with_kl(self, output: dict[str, Any]) -> Tensor:
        """Advantages minus the weighted KL: (B, T), of the token (`advantages`) or of it and all later ones (`future`).

        For `zero_sum`, (B,): of the completion relative to its group.
        """
        log_probs, mask = output.get("old_per_token_logps"), _mask(output)
        if self.args.via == "zero_sum":
            return self._zero_sum_advantages(output, mask)
        if log_probs is None:
            ids = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
            attention = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
            with torch.no_grad():
                log_probs, *_ = self._get_per_token_logps_and_entropies(
                    self.model, ids, attention, mask.shape[1], batch_size=self.args.per_device_train_batch_size
                )
        weights = output["kl_weights"]
        moved = (weights * (log_probs - output["ref_per_token_logps"])).masked_fill(weights == 0, 0.0)
        if self.args.via == "future":
            moved = to_the_end(moved, mask)
        return output["advantages"][:, None] - self.beta * moved

    def _zero_sum_advantages(self, output: dict[str, Any], mask: Tensor) -> Tensor:
        """(B,) ZCPO's coefficients; puts the exact KL of the tokens in place of the reference's logits."""
        ids = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
        attention = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
        length, reference, found = mask.shape[1], output.pop("ref_logits"), []
        with torch.no_grad():
            for rows in in_parts(len(ids), length * reference.shape[-1]):
                logits = completion_logits(self.model, ids[rows], attention[rows], length, self.accelerator)
                found.append(kl.exact(logits / self.temperature, reference[rows] / self.temperature))
        output["kl_exact"], weights = torch.cat(found), output["kl_weights"]
        costs = (weights * output["kl_exact"]).masked_fill(~mask | (weights == 0), 0.0)
        drift = costs.sum(1) / mask.sum(1).clamp_min(1)
        everyone = self.accelerator.gather(torch.stack([output["advantages"].float(), drift.float()], dim=1))  # (N, 2)
        coefficients = zero_sum_coefficients(everyone[:, 0], everyone[:, 1], self._completions, self.beta)
        return coefficients[self.accelerator.process_index * len(ids) :][: len(ids)]

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        if self.beta == 0:
            return super()._compute_loss(model, inputs)
        beta, in_loss = self.beta, self.args.via == "loss"
        with self._watched(of_reference=False) as passes:
            coefficient = Coefficient(beta, partial(self._weighed, passes, model, inputs))
            self.beta = coefficient if in_loss else 0.0
            try:
                loss = super()._compute_loss(model, inputs)
            finally:
                self.beta = beta
        if in_loss and coefficient.uses != 1:
            raise _moved(f"its loss multiplied the KL by its coefficient {coefficient.uses} times, not once")
        if not in_loss:
            with torch.no_grad():
                self._weighed(passes, model, inputs, None)
        return loss

    def _weighed(self, passes: Passes, model: Any, inputs: dict[str, Any], theirs: Tensor | None) -> Tensor:
        """The weighted KL of each token, (B, T); also logs it. Args: theirs (B, T): TRL's KL."""
        if len(passes.log_probs) != 1:
            raise _moved(f"its loss took {len(passes.log_probs)} passes of the policy, not one")
        log_probs, mask, weights = passes.log_probs[0], _mask(inputs), inputs["kl_weights"]
        divergence = self._divergence(log_probs, model, inputs, theirs)
        if divergence.shape != weights.shape:
            raise _moved(f"its KL has the shape {tuple(divergence.shape)}, not {tuple(weights.shape)}")
        if self.args.kl_weighting == "top_entropy":
            entropies = passes.entropies[0]
            if entropies is None:
                raise _moved("its loss computed no entropies")
            windows = window_means(entropies.float(), mask, self.args.entropy_window)
            weights = weights * ~top_share_of_rows(windows, mask, self.args.token_share)
        if self.args.kl_off_clipped:
            weights = weights.masked_fill(self._clipped(log_probs, mask, inputs), 0.0)
        for name, value in statistics(weights, divergence, mask, self.accelerator).items():
            self._metrics[self._mode][name].append(value)
        if self.args.kl_weighting == "none":
            return torch.zeros_like(divergence)
        left_out = weights == 0
        if bool((left_out & ~divergence.isfinite()).any()):  # times 0, they and their gradient would be NaN
            divergence = self._divergence(log_probs, model, inputs, None, left_out)
        return weights * divergence

    def _divergence(
        self, log_probs: Tensor, model: Any, inputs: dict[str, Any], theirs: Tensor | None, left_out: Tensor | None = None
    ) -> Tensor:
        """(B, T) the KL of each token by the chosen estimator, with its bias correction.

        Args:
            theirs: (B, T) TRL's KL, if it can be used unchanged.
            left_out: (B, T) bool, tokens without KL: their inputs are replaced by equal ones, so it is finite, no gradient.
        """
        estimator, correction = self.args.kl_estimator, self.args.bias_correction
        if self.args.via == "zero_sum":
            exact: Tensor = inputs["kl_exact"]
            return exact
        if estimator == "trl":
            if theirs is not None:
                return theirs
            estimator, correction = "k3", "ratio" if self.args.use_bias_correction_kl else "none"
        left_out = torch.zeros_like(log_probs, dtype=torch.bool) if left_out is None else left_out
        if estimator == "exact":
            ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
            attention = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
            logits = completion_logits(model, ids, attention, log_probs.shape[1], self.accelerator)
            sides = (logits / self.temperature, inputs["ref_logits"] / self.temperature)
            return kl.exact(*(side.masked_fill(left_out[..., None], 0.0) for side in sides))
        sides = (log_probs, inputs["ref_per_token_logps"])
        divergence = kl.SAMPLED[estimator](*(side.masked_fill(left_out, 0.0) for side in sides))
        if correction == "none":
            return divergence
        ratio = _log_ratio(log_probs, inputs).masked_fill(left_out, 0.0).exp()
        return divergence * (ratio if correction == "ratio" else ratio.detach())

    def _clipped(self, log_probs: Tensor, mask: Tensor, inputs: dict[str, Any]) -> Tensor:
        """(B, T) bool, or (B, 1) for ratios of whole completions: tokens whose policy gradient is clipped to 0."""
        log_ratio = _log_ratio(log_probs, inputs)
        if self.importance_sampling_level == "sequence":
            log_ratio = ((log_ratio * mask).sum(1) / mask.sum(1).clamp_min(1))[:, None]
        return clipped(log_ratio, inputs["advantages"][:, None], self.epsilon_low, self.epsilon_high)

    @property
    def _mode(self) -> str:
        return "train" if self.model.training else "eval"

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.calibration is not None and self.args.should_save:
            folder = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
            kept = {"asked": asked(self.args), "found": asdict(self.calibration)}
            (folder / CALIBRATION_FILE).write_text(json.dumps(kept), encoding="utf-8")

    def _load_optimizer_and_scheduler(self, checkpoint: Any) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        file = None if checkpoint is None else Path(checkpoint) / CALIBRATION_FILE
        if file is not None and file.exists():
            kept = json.loads(file.read_text(encoding="utf-8"))
            if kept["asked"] == asked(self.args):  # else it is measured again
                self.calibration = Calibration(**kept["found"])


def _mask(batch: dict[str, Any]) -> Tensor:
    """(B, T) bool, the tokens that the policy sampled: completion tokens, without those of tools."""
    mask: Tensor = batch["completion_mask"].bool()
    return mask & batch["tool_mask"].bool() if "tool_mask" in batch else mask


def _log_ratio(log_probs: Tensor, inputs: dict[str, Any]) -> Tensor:
    """(B, T) the log of the importance ratio; on policy it is 0, with a gradient."""
    old = inputs.get("old_per_token_logps")
    return log_probs - (log_probs.detach() if old is None else old)


def _moved(what: str) -> RuntimeError:
    return RuntimeError(
        f"TRL does not compute what the weighted KL relies on: {what}. Its internals are other than in the releases that were "
        "tried; nothing was trained with it."
    )
