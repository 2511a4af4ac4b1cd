"""Alert rules and the dashboard: read by Prometheus' own checker, and about figures that /metrics really shows."""

from __future__ import annotations

import json
import re
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import main
from lnpay.runtime.worker_passes import main_pass
from lnpay.web.operations.metrics import WEBHOOK_OUTCOMES
from tests.deploy.test_deploy import DEPLOY, check, tool
from tests.world import World

RULES, RULE_TESTS = DEPLOY / "prometheus" / "alerts.yml", DEPLOY / "prometheus" / "alerts_test.yml"
ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "lnpay.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
TARGETS = [(panel["title"], target["expr"]) for panel in PANELS for target in panel.get("targets", ())]
EXPRESSIONS = [*((rule["alert"], rule["expr"]) for rule in ALERTS), *TARGETS]

OF_PROMETHEUS = {"job", "instance"}
"""Labels that it adds."""

Series = list[tuple[str, dict[str, str]]]


@pytest.fixture
def shown(world: World) -> Series:
    """Name and labels of every line of /metrics, once something has happened."""
    world.pay(world.sell())
    main_pass(world.backend)
    world.client.post("/webhook", data=b"{}")
    return [
        (sample.name, sample.labels)
        for family in text_string_to_metric_families(world.client.get("/metrics").text)
        for sample in family.samples
    ]


def as_rules(expressions: list[tuple[str, str]]) -> str:
    """A file of rules that asks each expression, with the dashboard's variables filled in."""
    asked = [
        {"record": f"asked:number_{number}", "expr": expr.replace("$job", "lnpay").replace("$__rate_interval", "5m")}
        for number, (_, expr) in enumerate(expressions)
    ]
    return str(yaml.safe_dump({"groups": [{"name": "asked", "rules": asked}]}))


def selected(expr: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """The metrics in an expression, each with what its labels must be, or must not be."""
    found = []
    for name, matchers in re.findall(r"\b((?:lnpay|process)_\w+)(?:\{([^}]*)\})?", expr):
        wanted = re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"', matchers)
        found.append((name, [(label, word) for label, words in wanted for word in words.split("|")]))
    return found


class TestRules:
    def test_prometheus_takes_them(self) -> None:
        assert f"{len(ALERTS)} rules found" in check("promtool", "check", "rules", RULES)

    def test_they_fire_when_they_should_and_not_before(self) -> None:
        assert "SUCCESS" in check("promtool", "test", "rules", RULE_TESTS)

    @pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
    def test_each_says_what_to_do_and_has_a_test(self, rule: dict[str, Any]) -> None:
        notes = rule["annotations"]

        assert notes.keys() == {"summary", "description", "runbook_url"}
        assert notes["runbook_url"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert len(notes["description"]) > 80
        assert f'alertname="{rule["alert"]}"' in RULE_TESTS.read_text() or rule["alert"] == "LnpayDown"

    @pytest.mark.parametrize("line", sorted(set(re.findall(r'"python main\.py ([^"]+)"', RULES.read_text()))))
    def test_the_commands_that_they_name_are_there(self, line: str) -> None:
        assert vars(main._parse(line.replace("LN_ADDRESS", "a@b.example").split()))

    def test_their_names_are_their_own(self) -> None:
        assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS)


class TestDashboard:
    def test_its_panels_have_ids_of_their_own_and_do_not_lie_over_each_other(self) -> None:
        places = [(panel["title"], panel["gridPos"]) for panel in PANELS]

        assert len({panel["id"] for panel in PANELS}) == len(PANELS)
        assert [title for title, at in places if at["x"] + at["w"] > 24] == []
        assert [(one, other) for (one, a), (other, b) in combinations(places, 2) if do_overlap(a, b)] == []

    def test_its_data_source_is_chosen_when_it_is_imported(self) -> None:
        variables = {one["name"]: one["type"] for one in DASHBOARD["templating"]["list"]}
        sources = {panel["datasource"]["uid"] for panel in PANELS if panel["type"] != "row"}

        assert variables == {"datasource": "datasource", "job": "query"}
        assert sources == {"${datasource}"}
        assert {target["datasource"]["uid"] for panel in PANELS for target in panel.get("targets", ())} == sources

    def test_every_panel_says_what_it_shows(self) -> None:
        assert [panel["title"] for panel in PANELS if panel["type"] != "row" and not panel.get("description")] == []

    def test_prometheus_takes_its_questions(self, tmp_path: Path) -> None:
        rules = tmp_path / "rules.yml"
        rules.write_text(as_rules(TARGETS))

        assert f"{len(TARGETS)} rules found" in check("promtool", "check", "rules", rules)


def do_overlap(a: dict[str, int], b: dict[str, int]) -> bool:
    """Whether two panels lie over each other."""
    beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
    return not (beside or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"])


class TestFigures:
    def test_prometheus_takes_what_is_shown(self, world: World) -> None:
        world.sell()
        figures = world.client.get("/metrics").text

        found = subprocess.run([tool("promtool"), "check", "metrics"], input=figures, capture_output=True, text=True)

        assert (found.returncode, found.stdout, found.stderr) == (0, "", "")

    @pytest.mark.parametrize(("title", "expr"), EXPRESSIONS, ids=[title for title, _ in EXPRESSIONS])
    def test_every_query_finds_a_series(self, world: World, shown: Series, title: str, expr: str) -> None:
        routes = {rule.rule for rule in world.client.application.url_map.iter_rules()}
        known = {"route": routes, "status": {"2xx", "3xx", "4xx", "5xx"}, "outcome": set(WEBHOOK_OUTCOMES)}

        wanted = selected(expr)

        assert wanted or "up{" in expr
        for name, matchers in wanted:
            lines = [labels for one, labels in shown if one == name]
            assert lines, name
            for label, word in matchers:
                if label not in OF_PROMETHEUS:
                    assert word in known.get(label, {labels.get(label) for labels in lines}), (name, label, word)

    def test_everything_that_is_shown_is_asked_for_somewhere(self, shown: Series) -> None:
        asked = {name for _, expr in EXPRESSIONS for name, _ in selected(expr)}

        assert {name for name, _ in shown if name.startswith("lnpay_")} - asked == {
            "lnpay_http_request_duration_seconds_sum"
        }
