"""Where a causal language model is unsure: any one that transformers loads, on completions that are given or sampled.

models      a model by its name, folder or GGUF file, with its tokenizer
texts       prompts and completions, from files and as tokens
pieces      tokens as people can read them
sampling    completions that a model samples
scores      what a model says of each token, and a reference beside it
worth       what a token is worth: the success after it and after its best alternative
verifiers   who says whether a completion is right
"""

from rlkl_htc_common.extras import require

require("rlkl[train]", "tokenizers", "transformers")
