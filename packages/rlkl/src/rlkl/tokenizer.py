"""The tokenizer: one token per character, as a transformers tokenizer, so that checkpoints load with AutoTokenizer."""

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

# Every character of the task's texts; the order is the order of the ids and must not change.
CHARACTERS = "\n +,-/0123456789:<=>ACDEINT[]aceghnprstu"
END = "<|end|>"  # ends a text, and pads what is shorter than its batch


def character_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with one token per character of the task and one that ends and pads: 41 in all.

    It leaves texts as they are: no special token is added, and other characters raise.
    """
    vocabulary = {character: number for number, character in enumerate([END, *CHARACTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END, clean_up_tokenization_spaces=False, padding_side="right"
    )
