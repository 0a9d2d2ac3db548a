"""The language model: a small GPT-2 over characters, with a critic where an algorithm needs one."""
