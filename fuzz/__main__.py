"""`make fuzz`: broken files for every reader, target by target.

    python -m fuzz              60 seconds for each target
    python -m fuzz 10 table     10 seconds for the one that reads tables

What the inputs were and what they found goes into outputs/fuzz: summary.json, and for each target its inputs and a log. Exits
with 1 where there is a finding, with 2 for a target that does not exist, with 130 after Ctrl-C.
"""

import ast
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

OUTPUT = Path("outputs/fuzz")
STARTING = 300  # seconds that a process may take beyond its own, to import what it needs
BAR = "{desc} {bar} {n:.0f}/{total:.0f} s{postfix}"
Summary = dict[str, dict[str, Any]]


def known_targets() -> list[str]:
    """The names of all targets, without importing what they need."""
    tree = ast.parse((Path(__file__).parent / "targets.py").read_text(encoding="utf-8"))
    (table,) = (node for node in tree.body if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "TARGETS")
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    return [node.id for node in ast.walk(table) if isinstance(node, ast.Name) and node.id in functions]


def fuzz(target: str, seconds: float, bar: "tqdm[None]") -> dict[str, Any]:
    """Fuzz one target in a process of its own. Returns: its record, whatever became of the process."""
    folder = OUTPUT / target
    for old in (*folder.glob("finding-*"), *folder.glob("killed-*"), *folder.glob("record.json")):
        old.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    quiet = {"TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "WANDB_MODE": "disabled"}
    command = [sys.executable, "-m", "fuzz.worker", target, str(seconds), str(folder)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=os.environ | quiet, start_new_session=True
        )
        try:
            _wait(process, seconds, folder, bar)
        finally:
            process.kill()
            process.wait()
    record = _record(folder)
    killed = [file.name for file in sorted(folder.glob("killed-*")) if "slow-unit" not in file.name]
    if process.returncode or killed:
        said = (folder / "log").read_text(errors="replace").strip().splitlines()[-1:]
        finding = {"exception": f"exit code {process.returncode}", "where": "the process", "said": "".join(said)[:200]}
        record["findings"].append({**finding, "input": killed[0] if killed else None, "times": 1})
    return record


def _wait(process: "subprocess.Popen[bytes]", seconds: float, folder: Path, bar: "tqdm[None]") -> None:
    """Wait for the process to end, and move the bar."""
    started, told = time.monotonic(), 0.0
    while process.poll() is None and time.monotonic() - started < seconds + STARTING:
        time.sleep(0.5)
        record = _record(folder)
        now = max(told, min(seconds, record["seconds"]))
        bar.set_postfix_str(f"{folder.name}: {record['inputs']:,} inputs, {len(record['findings'])} findings")
        bar.update(now - told)
        told = now
    bar.update(seconds - told)


def _record(folder: Path) -> dict[str, Any]:
    file = folder / "record.json"
    return json.loads(file.read_text()) if file.exists() else {"engine": None, "inputs": 0, "seconds": 0.0, "findings": []}


def as_text(summary: Summary) -> str:
    """The summary for a terminal."""
    lines = [f"{'target':18} {'engine':8} {'seconds':>8} {'inputs':>9} {'findings':>9}"]
    for name, record in summary.items():
        lines.append(
            f"{name:18} {record['engine'] or '-':8} {record['seconds']:8.0f} {record['inputs']:9,} {len(record['findings']):9}"
        )
        for finding in record["findings"]:
            lines.append(f"  {finding['exception']} in {finding['where']} ({finding['times']} times): {finding['said'][:100]}")
            lines.append(f"  input: {OUTPUT / name / str(finding['input'])}")
    lines.append(f"{sum(record['inputs'] for record in summary.values()):,} inputs; {OUTPUT / 'summary.json'}")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Fuzz targets. Args: arguments: seconds for each, and targets; all by default. Returns: the exit code."""
    try:
        seconds = float(arguments[0]) if arguments else 60.0
    except ValueError:
        print(f"fuzz: the first argument is the number of seconds for each target, not {arguments[0]!r}.", file=sys.stderr)
        return 2
    known = known_targets()
    targets = arguments[1:] or known
    unknown = [target for target in targets if target not in known]
    if unknown:
        print(f"fuzz: no target {unknown[0]!r}; there are {', '.join(known)}.", file=sys.stderr)
        return 2
    summary: Summary = {}
    code = 0
    with tqdm(total=seconds * len(targets), desc="fuzzing", bar_format=BAR) as bar:
        for target in targets:
            try:
                summary[target] = fuzz(target, seconds, bar)
            except KeyboardInterrupt:
                summary[target] = _record(OUTPUT / target)
                code = 130
                break
    (OUTPUT / "summary.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    print(as_text(summary))
    return code or int(any(record["findings"] for record in summary.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
