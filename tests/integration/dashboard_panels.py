from pathlib import Path

import yaml

FILE = Path(__file__).resolve().parents[2] / "conf" / "dashboards" / "dashboards.yaml"


def metrics_named(dashboard):
    """Every metric that a panel of a dashboard names."""
    (found,) = [entry for entry in yaml.safe_load(FILE.read_text())["dashboards"] if entry["name"] == dashboard]
    return {metric for section in found["sections"] for panel in section["panels"] for metric in panel["metrics"]}
