"""Tiny random language models with a vocabulary of bytes, as those of GPT-2 and SmolLM2 are."""

import json

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rlkl.inspection.models import CausalModel

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())  # how each of the 256 bytes is spelled
END = "<|end|>"


def byte_tokenizer(decoder=None):
    """Each byte is a token, and so are `ab` and the end."""
    vocabulary = {END: 0, **{spelled: number for number, spelled in enumerate(BYTES, start=1)}, "ab": 257}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel() if decoder is None else decoder
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, bos_token=END)


def network(kind="llama", positions=128, scale=3.0):
    """A random network whose distributions are neither flat nor certain."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 258, "eos_token_id": 0, "bos_token_id": 0}
    if kind == "gpt2":
        made = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=positions, **sizes))
    else:
        made = LlamaForCausalLM(
            LlamaConfig(
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=positions,
                tie_word_embeddings=False,
                **sizes,
            )
        )
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=scale / parameter.shape[-1] ** 0.5)
    return made.eval()


def causal_model(kind="llama", name="tiny", **more):
    """One that need not be loaded."""
    return CausalModel(name, network(kind, **more), byte_tokenizer())


def save(folder, kind="llama", **more):
    """Write one to a folder."""
    network(kind, **more).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def write_lines(file, *rows):
    """Write JSON lines."""
    file.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return file
