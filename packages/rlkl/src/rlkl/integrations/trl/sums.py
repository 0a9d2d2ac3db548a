"""GRPO with TRL on one-digit sums: one fine-tuning, with its curve. For `rlkl-reproduce-llm`."""

import math
from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from transformers import TrainerCallback

from rlkl.integrations.smollm2 import digit_sums, line_tokenizer, right_sum, split_pairs
from rlkl.integrations.sums_settings import BY_SHARE, SumsSettings
from rlkl.integrations.trl.config import PrioritizedKLConfig
from rlkl.integrations.trl.trainer import PrioritizedKLTrainer

LOGGED = {  # TRL's name -> ours
    "reward": "rollout/success",
    "completions/clipped_ratio": "rollout/truncated",
    "frac_reward_zero_std": "rollout/constant_groups",
    "kl_weighting/kl": "losses/kl",
    "kl_weighting/mean_weight": "weights/mean",
    "kl_weighting/share_below_half": "weights/below_half",
    "entropy": "losses/entropy",
    "grad_norm": "losses/grad_norm",
    "clip_ratio/region_mean": "losses/clip_fraction",
    "step_time": "charts/seconds",
}
Measured = dict[str, float]


class Curve(TrainerCallback):
    """Hands on what TRL logs of each step, and evaluations of the policy.

    Args:
        evaluate: gives measures of the policy.
        every: steps between evaluations; there is one after the last.
        log: takes the number of the step and its metrics.
    """

    def __init__(self, evaluate: Callable[[Any], Measured], every: int, log: Callable[[int, Measured], None]) -> None:
        self.evaluate, self.every, self.log = evaluate, every, log
        self.measured: Measured = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Evaluate, if it is time; TRL logs the step after this."""
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self.measured = self.evaluate(more["model"])

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **more: Any) -> None:
        """Hand on a step; the summary at the end of the training is none. Rewards are logged when completions are sampled."""
        if logs is not None and "loss" in logs:
            named = {ours: float(logs[theirs]) for theirs, ours in LOGGED.items() if theirs in logs}
            self.log(state.global_step, {key: value for key, value in named.items() if math.isfinite(value)} | self.measured)
            self.measured = {}


def arguments(settings: SumsSettings, folder: str) -> PrioritizedKLConfig:
    """The settings as TRL has them. Args: folder: for TRL's output, of which there is none."""
    no_kl = settings.weighting == "none"
    return PrioritizedKLConfig(
        output_dir=folder,
        beta=0.0 if no_kl else settings.alpha,
        kl_weighting=settings.weighting,
        weight_share=settings.share if settings.weighting in BY_SHARE else None,
        calibration_completions=settings.calibration_completions,
        kl_off_constant_groups=settings.kl_off_constant_groups and not no_kl,
        loss_type=settings.loss,
        epsilon_high=settings.clip_high,
        mask_truncated_completions=settings.leave_out_truncated,
        max_steps=settings.steps,
        num_iterations=settings.uses,
        per_device_train_batch_size=settings.completions,  # a group at a time: more need more memory
        gradient_accumulation_steps=settings.prompts,
        num_generations=settings.completions,
        max_completion_length=settings.max_new_tokens,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant",
        use_cpu=not torch.cuda.is_available(),
        bf16=False,
        gradient_checkpointing=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=settings.seed,
    )


def fine_tune(
    settings: SumsSettings,
    model: str,
    folder: str,
    evaluate: Callable[[Any], Measured],
    log: Callable[[int, Measured], None],
) -> PrioritizedKLTrainer:
    """Fine-tune a model on the sums of the training part.

    Args:
        settings: after `check`.
        model: a folder or a name of the hub.
        folder: for TRL's output.
        evaluate, log: see `Curve`.

    Returns:
        The trainer after its training: `model`, and `calibration` with the exponent for the share.

    Raises:
        InputError: if no exponent gives the share.
    """
    disable_progress_bars()
    training, _ = split_pairs()
    rows = digit_sums(settings.steps * settings.prompts, settings.seed, training)  # more than are used
    trainer = PrioritizedKLTrainer(
        model=model,
        reward_funcs=right_sum,
        args=arguments(settings, folder),
        train_dataset=Dataset.from_list(rows),
        processing_class=line_tokenizer(model),
        callbacks=[Curve(evaluate, settings.evaluate_every, log)],
    )
    trainer.train()
    return trainer
