"""The cost of the weighted KL per step of TRL's GRPOTrainer: time and peak memory, on SmolLM2, two cores and few tokens.

    python benchmarks/trl_overhead.py outputs/smollm2

Each trainer runs in its own process, alternating, ROUNDS times. Times are process times, not wall times, so that other load on
the machine matters less. The first step of each process is a warm-up and is left out.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS, STEPS = 3, 5
BATCH, TOKENS = 8, 16
SETTINGS = {
    "GRPOTrainer": None,
    "prioritized, negentropy": {"weight_exponent": 20.0},
    "prioritized, renyi2": {"weight_exponent": 20.0, "certainty": "renyi2"},
    "prioritized, min_entropy": {"weight_exponent": 20.0, "certainty": "min_entropy"},
    "prioritized, advantages": {"weight_exponent": 20.0, "kl_estimator": "k2", "via": "advantages"},
}


def peak_memory_mb() -> float:
    """Peak memory of this process (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measure(folder: str, name: str, out: str) -> dict[str, float]:
    """The steps of one process: median seconds, and peak memory in MB."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from rlkl.integrations import smollm2
    from rlkl.integrations.trl import PrioritizedKLConfig, PrioritizedKLTrainer

    more = SETTINGS[name]
    trainer_class, config = (GRPOTrainer, GRPOConfig) if more is None else (PrioritizedKLTrainer, PrioritizedKLConfig)
    args = config(
        output_dir=out,
        use_cpu=True,
        bf16=False,
        beta=0.05,
        per_device_train_batch_size=BATCH,
        num_generations=BATCH,
        max_completion_length=TOKENS,
        max_steps=STEPS,
        report_to="none",
        save_strategy="no",
        gradient_checkpointing=False,
        **(more or {}),
    )
    times = []

    class Timed(trainer_class):
        def training_step(self, *given, **named):
            started = time.process_time()
            loss = super().training_step(*given, **named)
            times.append(time.process_time() - started)
            return loss

    rows = Dataset.from_list(smollm2.digit_sums(64, seed=0))
    Timed(folder, smollm2.right_sum, args, rows).train()
    return {"seconds": statistics.median(times[1:]), "memory_mb": peak_memory_mb()}


def main(folder: str) -> None:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in SETTINGS}
    for _ in range(ROUNDS):
        for name in SETTINGS:
            command = [sys.executable, __file__, folder, name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
            print(name, found[name][-1], flush=True)
    print(f"{'':26} {'s a step':>9} {'':>7} {'MB':>7}")
    base = {key: statistics.median(each[key] for each in found["GRPOTrainer"]) for key in ("seconds", "memory_mb")}
    for name, each in found.items():
        seconds, memory = (statistics.median(one[key] for one in each) for key in ("seconds", "memory_mb"))
        more = seconds / base["seconds"] - 1, memory / base["memory_mb"] - 1
        print(f"{name:26} {seconds:9.2f} {more[0]:+7.1%} {memory:7.0f} {more[1]:+7.1%}")


if __name__ == "__main__":
    if len(sys.argv) == 2:
        main(sys.argv[1])
    else:
        print("\n" + json.dumps(measure(*sys.argv[1:], out="outputs/trl_overhead")))
