import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def dashboard(name):
    """A workspace, as the config has it."""
    dashboards = yaml.safe_load((ROOT / "conf" / "dashboards" / "dashboards.yaml").read_text())["dashboards"]
    (found,) = [entry for entry in dashboards if entry["name"] == name]
    return found


def metrics_named(name, elsewhere=("charts/", "test/")):
    """The metrics that panels of a workspace name. Args: elsewhere: what those begin with that metrics.jsonl has not."""
    named = {metric for section in dashboard(name)["sections"] for panel in section["panels"] for metric in panel["metrics"]}
    return {metric for metric in named if not metric.startswith(elsewhere)}


def undocumented(names):
    """Those of some names that docs/metrics.md does not hold."""
    rows = [line.split("|")[1] for line in (ROOT / "docs" / "metrics.md").read_text().splitlines() if line.startswith("| `")]
    known = [re.sub(r"<\w+>", "[^/]+", re.escape(name)) for row in rows for name in re.findall("`([^`]+)`", row)]
    return {name for name in names if name != "step" and not any(re.fullmatch(pattern, name) for pattern in known)}
