"""What Prometheus and Grafana are told to ask for exists."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from got_assets.line.metrics import LineMetrics

from .files import CLUSTER

DASHBOARD = json.loads((CLUSTER / "grafana" / "dashboard.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
SELECTED = re.compile(r"\b(got_\w+)(?:\{([^}]*)\})?")


@pytest.mark.parametrize("query", QUERIES)
def test_each_query_names_metrics_that_exist_with_their_labels(query: str) -> None:
    known = {}
    made = LineMetrics()
    for name, metric in vars(made).items():
        if hasattr(metric, "_labelnames"):
            known[f"{metric._name}_total" if name == "faults" else metric._name] = set(metric._labelnames)
    assert set(known) == made.names()
    named = SELECTED.findall(query)
    assert named, query
    for name, labels in named:
        assert name in known, f"{query} asks for {name}"
        assert set(re.findall(r"(\w+)\s*[=!]~?", labels)) <= known[name]
    by = {label.strip() for found in re.findall(r"by \(([^)]*)\)", query) for label in found.split(",")}
    assert by <= set().union(*(known[name] for name, _ in named))


def test_every_metric_is_shown() -> None:
    shown = {name for query in QUERIES for name, _ in SELECTED.findall(query)}
    assert LineMetrics().names() - shown <= {"got_line_look_seconds"}


def test_the_dashboard_is_where_grafana_looks_and_asks_the_source_that_there_is() -> None:
    source = yaml.safe_load((CLUSTER / "grafana" / "datasource.yaml").read_text())["datasources"][0]
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {source["uid"]}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    provider = yaml.safe_load((CLUSTER / "grafana" / "provider.yaml").read_text())["providers"][0]
    volumes = yaml.safe_load((CLUSTER / "compose.yaml").read_text())["services"]["grafana"]["volumes"]
    target = next(one.split(":")[1] for one in volumes if "dashboard.json" in one)
    assert target.startswith(f"{provider['options']['path']}/")
