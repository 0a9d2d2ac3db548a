import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def metrics_named(dashboard):
    """Every metric that a panel of a dashboard names."""
    dashboards = yaml.safe_load((ROOT / "conf" / "dashboards" / "dashboards.yaml").read_text())["dashboards"]
    (found,) = [entry for entry in dashboards if entry["name"] == dashboard]
    return {metric for section in found["sections"] for panel in section["panels"] for metric in panel["metrics"]}


def undocumented(names):
    """Those of some names that docs/metrics.md does not hold."""
    rows = [line.split("|")[1] for line in (ROOT / "docs" / "metrics.md").read_text().splitlines() if line.startswith("| `")]
    known = [re.sub(r"<\w+>", "[^/]+", re.escape(name)) for row in rows for name in re.findall("`([^`]+)`", row)]
    return {name for name in names if name != "step" and not any(re.fullmatch(pattern, name) for pattern in known)}
