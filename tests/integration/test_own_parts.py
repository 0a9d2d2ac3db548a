"""The steps of the how-to pages, done in a copy, lead to a report with the part that they add."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from .htc_runs import common_arguments, place
from .test_rlkl_end_to_end import pretrained

__all__ = ["place", "pretrained"]  # fixtures

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/how-to/own_objective_or_rule.md").read_text(encoding="utf-8")
OF_TASKS = (ROOT / "docs/how-to/own_task.md").read_text(encoding="utf-8")
OF_WEIGHTINGS = (ROOT / "docs/how-to/own_weighting.md").read_text(encoding="utf-8")


def blocks(tag, page=PAGE):
    return re.findall(rf"^```{tag}\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)


def definition(code, start):
    """The function or class in a block, from its first line to the next that is not indented."""
    first, _, rest = code[code.index(start) :].partition("\n")
    return first + "\n" + re.split(r"^(?=\S)", rest, maxsplit=1, flags=re.MULTILINE)[0].rstrip() + "\n"


def edited(file, find, put):
    text = file.read_text()
    assert text.count(find) == 1
    file.write_text(text.replace(find, put))


def call_in(copy, module, *arguments):
    outside = {"PYTHONPATH": os.pathsep.join([str(copy / "src"), os.environ.get("PYTHONPATH", "")])}
    outside |= {"RLKL_HTC_CONF": str(copy / "conf")}
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, **outside}, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_steps_lead_to_a_report(place, tmp_path):
    shutil.copytree(ROOT / "packages/htc/src/htc", tmp_path / "src/htc")
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    library = tmp_path / "src/htc"
    of_rule, of_objective = blocks("python")
    rule, objective = blocks("py")
    (yaml,) = blocks("yaml")
    function = definition(of_rule, "def sure_part_of_best_leaf").replace("decoding.argmax_leaf", "argmax_leaf")
    with (library / "decoding/rules.py").open("a") as file:
        file.write(f"\n\n{function}")
    with (library / "losses/binary.py").open("a") as file:
        file.write(f"\n\n{definition(of_objective, 'class DeeperCountsMore')}")
    table = "ALL_RULES: dict[str, NamedRule] = {\n"
    edited(library / "decoding/by_name.py", table, f"{table}    {rule}")
    table = "OBJECTIVES: dict[str, NamedObjective] = {\n"
    edited(library / "settings.py", table, f"{table}    {objective}")
    (tmp_path / "conf/htc/loss/deeper_counts_more.yaml").write_text(yaml)

    def called(module, *arguments):
        return call_in(tmp_path, f"htc.commands.{module}", *arguments)

    (methods,) = re.findall(r"'(\+methods=.*)'", PAGE)
    arguments = [a for a in common_arguments(place) if not a.startswith(("loss=", "runs="))]
    arguments += ["experiment=hwv", "seeds=[0]", "jobs=1", f"output={tmp_path / 'report'}", f"runs={tmp_path / 'runs'}"]
    arguments += [f"~methods.{name}" for name in ("bce_prior_bias", "leaf_softmax", "conditional_softmax")]
    assert "| deeper counts more |" in called("reproduce", *arguments, "training.epochs=1", methods)
    assert "sure part of the best leaf,hF1 micro,deeper counts more," in (tmp_path / "report/metrics.csv").read_text()
    losses = json.loads((tmp_path / "report/summary.json").read_text())["losses"]
    assert list(losses) == ["bce", "conditional_softmax_la", "deeper_counts_more"]
    assert all("sure_part" in run["rules"] for runs in losses.values() for run in runs)
    (model,) = (tmp_path / "runs").glob("htc/hwv/deeper_counts_more-*/model")
    assert called("predict", f"model={model}", "decoder=sure_part", "text=atom").startswith("atom")


def copy_of_rlkl(tmp_path):
    without = shutil.ignore_patterns("pretrained", "__pycache__")
    shutil.copytree(ROOT / "packages/rlkl/src/rlkl", tmp_path / "src/rlkl", ignore=without)
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    return tmp_path / "src/rlkl"


def reproduction(model, tmp_path):
    """Arguments for rlkl-reproduce: one seed, one iteration."""
    sizes = ["seeds=[0]", "jobs=1", "examples=2", "evaluation_examples=2", "algorithm.iterations=1", "algorithm.episodes=4"]
    folders = [f"model={model}", f"runs={tmp_path / 'runs'}", f"output={tmp_path / 'report'}"]
    return [*sizes, *folders, "tracking.mode=disabled"]


def test_the_steps_to_a_weighting_lead_to_a_report(pretrained, tmp_path):
    library = copy_of_rlkl(tmp_path)
    (code,) = blocks("python", OF_WEIGHTINGS)
    of_functions, of_settings = blocks("py", OF_WEIGHTINGS)
    (yaml,) = blocks("yaml", OF_WEIGHTINGS)
    weightings = library / "weighting.py"
    table = re.search(r"^WEIGHTINGS.*= \{\n", weightings.read_text(), flags=re.MULTILINE)[0]
    edited(weightings, table, f"{definition(code, 'def exponential')}\n\n{table}    {of_functions}")
    table = re.search(r"^WEIGHTINGS.*= \{.*\n", (library / "settings.py").read_text(), flags=re.MULTILINE)[0]
    edited(library / "settings.py", table, f"{table}    {of_settings}")
    (tmp_path / "conf/rlkl/penalty/exponential.yaml").write_text(yaml)

    (methods,) = re.findall(r"'(\+methods=.*)'", OF_WEIGHTINGS)
    page = call_in(tmp_path, "rlkl.commands.reproduce", *reproduction(pretrained / "model", tmp_path), methods)
    assert "| exponential |" in page.replace("**", "")


def test_the_steps_to_a_task_lead_to_a_report(tmp_path):
    library = copy_of_rlkl(tmp_path)
    code, imported, table = blocks("py", OF_TASKS)
    (library / "tasks/carryless.py").write_text(code)
    known = re.search(r"^TASKS.*\n", (library / "tasks/registry.py").read_text(), flags=re.MULTILINE)[0]
    edited(library / "tasks/registry.py", known, f"{imported}\n{table}")

    def called(module, *arguments):
        return call_in(tmp_path, f"rlkl.commands.{module}", *arguments)

    assert "One of addition, subtraction, multiplication, carryless." in " ".join(called("pretrain", "--help").split())
    tiny = ["layers=1", "heads=1", "width=8", "positions=320"]
    sizes = ["trained_digits=1", "evaluation_examples=2", "training.epochs=1", "training.examples_per_epoch=8"]
    sizes += [f"architecture.{size}" for size in tiny]
    called("pretrain", "task=carryless", *sizes, f"run_dir={tmp_path / 'pretrained'}", "tracking.mode=disabled")
    called("reproduce", *reproduction(tmp_path / "pretrained/model", tmp_path))
    assert "Pre-trained on sums without carries of up to N = 1 digits" in (tmp_path / "report/report.html").read_text()
