"""The tokenizer: one token per character, as a transformers tokenizer, so that checkpoints load with AutoTokenizer."""

from typing import TYPE_CHECKING

from rlkl.tasks.scratchpad import CHARACTERS
from rlkl_htc_common.extras import require

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END = "<|end|>"  # ends a text, and pads what is shorter than its batch


def character_tokenizer(characters: str = CHARACTERS) -> "PreTrainedTokenizerFast":
    """A tokenizer with one token per character of a task's texts and, as the first, one that ends and pads.

    It leaves texts as they are: no special token is added, and other characters raise.

    Args:
        characters: in the order of their ids, as `rlkl.tasks.registry.Task` has them; additions and subtractions have 40.
    """
    require("rlkl[train]", "tokenizers", "transformers")
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {character: number for number, character in enumerate([END, *characters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END, clean_up_tokenization_spaces=False, padding_side="right"
    )
