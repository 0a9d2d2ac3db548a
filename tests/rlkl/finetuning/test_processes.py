"""Two processes learn what one does."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from rlkl.commands.finetune import check_shares
from rlkl_htc_common.errors import InputError

from .. import recipes


def finetune(folder, processes, *more):
    arguments = [f"run_dir={folder}", "algorithm.episodes=6", "algorithm.minibatch_size=3", "algorithm.iterations=2"]
    arguments += ["evaluation_examples=2", "algorithm.learning_rate=1e-3", *more]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    environment = os.environ | {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, "-m", "rlkl.commands.finetune", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return lines, load_file(folder / "model/model.safetensors")


@pytest.mark.parametrize("algorithm", ["a2c", pytest.param("grpo", marks=pytest.mark.slow)])
def test_two_processes_sample_the_same_and_come_to_the_same_weights(algorithm, tmp_path):
    more = [f"algorithm={algorithm}", "algorithm.episodes=6", "penalty=shuffled"]
    more += ["algorithm.group_size=3"] if algorithm == "grpo" else ["algorithm.micro_batch_size=1"]
    one, weights = finetune(tmp_path / "one", 1, *more)
    two, others = finetune(tmp_path / "two", 2, *more)
    assert len(one) == len(two) == 3
    for ours, theirs in zip(one, two, strict=True):
        assert ours.keys() == theirs.keys()
        numbers = {key: value for key, value in ours.items() if isinstance(value, float)}
        assert numbers == pytest.approx({key: theirs[key] for key in numbers}, rel=1e-3, abs=1e-5)
    apart = torch.cat([(tensor - others[name]).abs().flatten() for name, tensor in weights.items()])
    assert (apart < 5e-5).float().mean() > 0.99  # of steps of 1e-3: Adam makes whole ones of gradients that are but rounding


def test_processes_without_work_are_refused():
    algorithm = recipes.algorithm(episodes=7, minibatch_size=3)
    check_shares(algorithm, 1)
    with pytest.raises(InputError, match="2 processes were started, and a step has as few as 1 episodes"):
        check_shares(algorithm, 2)
