"""The pages that turn a GRPOTrainer into one with the weighted KL: what they show trains."""

import re
from pathlib import Path

import pytest

pytest.importorskip("trl", reason="the extra rlkl[trl] is not installed")

import rlkl.integrations.trl

from .trl_runs import digits, prompts, settings

ROOT = Path(__file__).resolve().parents[3]
PAGES = ("README.md", "packages/rlkl/README.md", "docs/how-to/trl.md")


@pytest.mark.parametrize("page", PAGES)
def test_the_example_trains(page, trl_model, tmp_path, monkeypatch):
    text = (ROOT / page).read_text(encoding="utf-8")
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL) if "reward_funcs=reward," in block]
    config = rlkl.integrations.trl.PrioritizedKLConfig
    monkeypatch.setattr(rlkl.integrations.trl, "PrioritizedKLConfig", lambda **given: settings(config, tmp_path, **given))
    monkeypatch.chdir(tmp_path)
    names = {"model": trl_model, "reward": digits, "dataset": prompts()}
    exec(block, names)
    assert names["trainer"].args.kl_weighting == "prioritized"
    assert names["trainer"].args.beta == 0.05
    assert names["trainer"].calibration.share == pytest.approx(0.1, abs=0.02)
    assert names["trainer"].state.global_step == 3
