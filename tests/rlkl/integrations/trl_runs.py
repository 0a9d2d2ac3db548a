"""Runs of TRL that are small enough for tests: a random model of two layers whose words are digits."""

import sys
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed
from trl import GRPOConfig, GRPOTrainer

from rlkl.integrations.trl import PrioritizedKLConfig, PrioritizedKLTrainer

WORDS = ["<pad>", "</s>", "<unk>", *"0123456789+=.abcdefgh"]
LORA = LoraConfig(r=2, lora_alpha=8, target_modules=["q_proj", "v_proj"])
SETTINGS = {
    "as it comes": {},
    "two iterations": {"num_iterations": 2, "gradient_accumulation_steps": 1, "steps_per_generation": 2, "max_steps": 6},
    "grpo": {"loss_type": "grpo"},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "cispo": {"loss_type": "cispo", "epsilon_high": 5.0},
    "sequence ratios": {"importance_sampling_level": "sequence", "loss_type": "grpo", "num_iterations": 2},
    "k3 without the ratio": {"use_bias_correction_kl": False, "num_iterations": 2},
    "temperature": {"temperature": 0.7},
    "entropy bonus": {"entropy_coef": 0.1},
    "top entropy": {"top_entropy_quantile": 0.5},
    "bf16": {"bf16": True},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "sgd": {"optim": "sgd", "learning_rate": 0.1},
    "lora": {"peft": True},
    "lora in bf16": {"peft": True, "bf16": True},
}


def save_model(folder: Path) -> str:
    """A tokenizer and a model whose next-token distributions are neither flat nor certain."""
    tokenizer = Tokenizer(models.WordLevel({word: k for k, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(12)
        model.lm_head.weight.mul_(4)
    model.save_pretrained(folder)
    return str(folder)


def prompts() -> Dataset:
    return Dataset.from_dict({"prompt": [f"{a}+{b}=" for a in range(4) for b in range(4)]})


def digits(completions, **columns):
    """More for completions with more digits."""
    return [float(sum(character.isdigit() for character in text)) for text in completions]


def settings(config, folder, **more):
    """A config for a few steps on a CPU."""
    given = {
        "output_dir": str(folder),
        "use_cpu": True,
        "bf16": False,
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "gradient_accumulation_steps": 2,
        "max_completion_length": 6,
        "max_steps": 3,
        "learning_rate": 0.02,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "beta": 0.5,
        "gradient_checkpointing": False,
        "use_bias_correction_kl": True,
    }
    return config(**(given | more))


def trained(trainer_class, model, args, **more):
    """A trainer after its steps. Args: more, for the trainer."""
    set_seed(0)  # before TRL 1.15 an adapter's first weights are drawn before TRL sets its seed
    trainer = trainer_class(model=model, reward_funcs=digits, args=args, train_dataset=prompts(), **more)
    trainer.train()
    return trainer


def parameters(trainer) -> torch.Tensor:
    """All trained parameters, one after the other."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    return torch.cat([p.detach().flatten().float() for p in model.parameters() if p.requires_grad])


def run(model, folder, ours, peft=False, kind=PrioritizedKLTrainer, **more):
    """A trainer after its steps: TRL's where `ours` is None, else ours with those settings. Args: more, of both."""
    trainer, config = (GRPOTrainer, GRPOConfig) if ours is None else (kind, PrioritizedKLConfig)
    return trained(trainer, model, settings(config, folder, **(more | (ours or {}))), **_adapter(peft))


def untrained(model, folder, kind=PrioritizedKLTrainer, peft=False, **more):
    args = settings(PrioritizedKLConfig, folder, **more)
    return kind(model, digits, args, prompts(), **_adapter(peft))


def _adapter(peft):
    return {"peft_config": LORA} if peft else {}


def a_batch(trainer, rows=8):
    """A batch of completions as TRL makes it, with our weights."""
    trainer.model.train()
    return trainer._generate_and_score_completions([prompts()[k // 4] for k in range(rows)])


def main(folder: str) -> None:
    """What test_trl runs in several processes: TRL's trainer and ours; each process writes down what came of it."""
    model, out = f"{folder}/model", f"{folder}/out"
    ours = {
        "trl": None,
        "standard": {"kl_weighting": "standard"},
        "shuffled": {"kl_weighting": "shuffled", "weight_exponent": 1.5},
        "share": {"weight_share": 0.3, "calibration_completions": 32},
    }
    runs = {name: run(model, out, more) for name, more in ours.items()}
    found = {"parameters": {name: parameters(trainer) for name, trainer in runs.items()}}
    found["exponent"] = runs["share"].calibration.exponent
    for weighting in ("prioritized", "shuffled", "matched_mean"):
        batch = a_batch(untrained(model, out, kl_weighting=weighting, weight_exponent=1.5))
        found[weighting] = batch["kl_weights"][batch["completion_mask"].bool()]
    zero_sum = untrained(model, out, via="zero_sum", kl_estimator="exact", weight_exponent=1.5)
    found["zero_sum"] = a_batch(zero_sum)["advantages"]
    torch.save(found, f"{folder}/process{runs['trl'].accelerator.process_index}.pt")


if __name__ == "__main__":
    main(sys.argv[1])
