"""Alertmanager: routes, texts and inhibition of the alerts."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.rule_files import DEPLOY, alerts, output_of

CONFIG = DEPLOY / "alertmanager" / "alertmanager.yml"
LABELS = sorted({(rule.labels["severity"], rule.labels["team"]) for rule in alerts()})
RECEIVERS = {
    ("page", "chat"): "pager",
    ("page", "cost"): "pager",
    ("ticket", "chat"): "chat",
    ("ticket", "cost"): "cost",
}


def receiver_of(config: Path, **labels: str) -> str:
    given = [f"{name}={value}" for name, value in labels.items()]
    output = output_of("amtool", "config", "routes", "test", f"--config.file={config}", *given)
    return next(line for line in output.splitlines() if not line.startswith("Warning"))


def test_the_configuration_is_valid() -> None:
    """Alertmanager accepts the configuration and its templates."""
    output = output_of("amtool", "check-config", CONFIG)

    assert "1 templates" in output
    assert "4 receivers" in output


def test_a_broken_configuration_is_found(tmp_path: Path) -> None:
    """The check above finds an undefined receiver and a template that does not parse."""
    shutil.copytree(CONFIG.parent, tmp_path / "alertmanager")
    config, template = tmp_path / "alertmanager" / CONFIG.name, tmp_path / "alertmanager" / "templates" / "eco2.tmpl"
    config.write_text(CONFIG.read_text().replace("receiver: cost", "receiver: costs"))
    assert 'undefined receiver "costs"' in output_of("amtool", "check-config", config, status=1)

    config.write_text(CONFIG.read_text())
    template.write_text("{{ define }}")
    assert "template" in output_of("amtool", "check-config", config, status=1)


@pytest.mark.parametrize(("severity", "team"), LABELS)
def test_every_alert_has_its_receiver(severity: str, team: str) -> None:
    """Pages go to the person on call, tickets to their team."""
    labels = {"severity": severity, "team": team, "service": "eco2-chat-worker"}

    assert receiver_of(CONFIG, **labels) == RECEIVERS[severity, team]


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        pytest.param({"severity": "page", "team": "nobody"}, "pager", id="page_of_an_unknown_team"),
        pytest.param({"severity": "ticket", "team": "nobody"}, "unrouted", id="ticket_of_an_unknown_team"),
        pytest.param({"severity": "critical", "team": "chat"}, "unrouted", id="unknown_severity"),
        pytest.param({"alertname": "Watchdog"}, "unrouted", id="no_label"),
    ],
)
def test_no_alert_is_lost(labels: dict[str, str], receiver: str) -> None:
    """Alerts with unexpected labels go to a receiver that is read."""
    assert receiver_of(CONFIG, **labels) == receiver


def test_a_wrong_route_is_found(tmp_path: Path) -> None:
    """The checks above find a wrong route: with other label values it matches no alert."""
    config = tmp_path / "alertmanager.yml"
    config.write_text(CONFIG.read_text().replace('severity="page"', 'severity="critical"'))

    assert receiver_of(config, severity="page", team="chat") == "unrouted"


def test_no_key_stands_in_the_configuration() -> None:
    """Slack's URL and PagerDuty's key are read from files."""
    text = CONFIG.read_text()

    assert re.findall(r"^\s*-? ?(\w*(?:url|key|token|password)\w*): \S+", text, re.MULTILINE) == [
        "slack_api_url_file",
        "routing_key_file",
    ]
    assert "hooks.slack.com" not in text


# --- the running server


class Notifications:
    """The notifications sent to Slack and PagerDuty."""

    def __init__(self) -> None:
        self.slack: list[Any] = []
        self.pagerduty: list[Any] = []

    def titles(self) -> list[str]:
        titles = [message["attachments"][0]["title"] for message in self.slack]
        return titles + [f"{event['event_action']} {event['payload']['summary']}" for event in self.pagerduty]

    def clear(self) -> None:
        self.slack.clear()
        self.pagerduty.clear()


class Alertmanager:
    """A running Alertmanager with the real configuration, short waits, and receivers on the loopback."""

    def __init__(self, url: str, notified: Notifications) -> None:
        self.url = url
        self.notified = notified

    def post(self, *posted: dict[str, Any]) -> None:
        request = urllib.request.Request(
            f"{self.url}/api/v2/alerts", json.dumps(posted).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=300):
            pass

    def wait(self, until: Callable[[], object]) -> None:
        deadline = time.monotonic() + 120
        while not until():
            assert time.monotonic() < deadline, self.notified.titles()
            time.sleep(0.02)


def alert(name: str, severity: str, *, ended: bool = False, **labels: str) -> dict[str, Any]:
    now = datetime.now(UTC)
    own = {"alertname": name, "severity": severity, "team": "chat", "service": "eco2-chat-worker"}
    return {
        "labels": own | labels,
        "annotations": {
            "summary": f"{name} is here",
            "description": "5% <!channel>",
            "dashboard_url": "https://grafana/d/eco2-nodes?var-node=answer",
            "runbook_url": f"https://runbooks/{name}.md",
        },
        "generatorURL": "http://prometheus/graph",
        "startsAt": (now - timedelta(minutes=1)).isoformat(),
        **({"endsAt": now.isoformat()} if ended else {}),
    }


@contextmanager
def receivers(notified: Notifications) -> Iterator[str]:
    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            (notified.slack if self.path == "/slack" else notified.pagerduty).append(sent)
            self.send_response(202 if self.path == "/pagerduty" else 200)
            self.end_headers()
            self.wfile.write(b'{"status": "success"}' if self.path == "/pagerduty" else b"ok")

        def log_message(self, *args: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[Alertmanager]:
    output_of("prometheus-alertmanager", "--version")
    notified = Notifications()
    with receivers(notified) as url:
        shutil.copytree(CONFIG.parent, tmp_path / "alertmanager")
        (tmp_path / "slack_api_url").write_text(f"{url}/slack")
        (tmp_path / "pagerduty_routing_key").write_text("the key")
        config = tmp_path / "alertmanager" / CONFIG.name
        text = CONFIG.read_text().replace("/etc/alertmanager/secrets", str(tmp_path))
        text = text.replace("global:\n", f"global:\n  pagerduty_url: {url}/pagerduty\n")
        config.write_text(re.sub(r"(group_wait|group_interval): \S+", r"\1: 300ms", text))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(
                [
                    "prometheus-alertmanager",
                    f"--config.file={config}",
                    f"--storage.path={tmp_path / 'data'}",
                    f"--web.listen-address={address}",
                    "--cluster.listen-address=",
                ],
                stderr=log,
            )
            try:
                server = Alertmanager(f"http://{address}", notified)
                server.wait(lambda: process.poll() is None and _answers(f"{server.url}/-/ready"))
                yield server
            finally:
                process.terminate()
                process.wait(10)
    assert "level=error" not in (tmp_path / "log").read_text()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except OSError:
        return False


def test_a_notification_has_its_text_and_links(alertmanager: Alertmanager) -> None:
    """Slack and PagerDuty get title, description, runbook and dashboard. A name cannot mention a whole channel."""
    notified = alertmanager.notified
    alertmanager.post(alert("NodeErrorRateHigh", "ticket", node="a"), alert("NodeErrorRateHigh", "ticket", node="b"))
    # Alertmanager takes them in one by one: on a slow machine the first notification has only one of them.
    alertmanager.wait(lambda: notified.slack and "(and 1 more)" in notified.slack[-1]["attachments"][0]["title"])
    sent = notified.slack[-1]
    line = (
        "5% &lt;!channel&gt; <https://runbooks/NodeErrorRateHigh.md|Runbook> · "
        "<https://grafana/d/eco2-nodes?var-node=answer|Dashboard> · <http://prometheus/graph|Query>\n"
    )

    assert sent["channel"] == "#eco2-chat"
    assert sent["attachments"][0]["title"] == "[ticket] NodeErrorRateHigh is here (and 1 more)"
    assert sent["attachments"][0]["title_link"] == "https://runbooks/NodeErrorRateHigh.md"
    assert sent["attachments"][0]["text"] == line * 2

    notified.clear()
    alertmanager.post(alert("AgentErrorRateHigh", "page", agent_name="eco2"))
    alertmanager.wait(lambda: notified.pagerduty and notified.slack)
    (event,) = notified.pagerduty
    assert event["routing_key"] == "the key"
    assert event["event_action"] == "trigger"
    assert event["payload"]["summary"] == "[page] AgentErrorRateHigh is here"
    assert event["payload"]["severity"] == "critical"
    assert event["links"] == [
        {"text": "Runbook", "href": "https://runbooks/AgentErrorRateHigh.md"},
        {"text": "Dashboard", "href": "https://grafana/d/eco2-nodes?var-node=answer"},
    ]
    assert notified.slack[0]["channel"] == "#eco2-alerts"

    notified.clear()
    alertmanager.post(alert("AgentErrorRateHigh", "page", agent_name="eco2", ended=True))
    alertmanager.wait(lambda: notified.pagerduty and notified.slack)
    assert sorted(notified.titles()) == [
        "[resolved] AgentErrorRateHigh is here",
        "resolve [resolved] AgentErrorRateHigh is here",
    ]


def test_a_title_names_what_still_fires(alertmanager: Alertmanager) -> None:
    """If one alert of a group has ended, the title, the link and the number are those of the others."""
    notified = alertmanager.notified
    firing, ended = (
        [alert("NodeErrorRateHigh", "ticket", node=node, ended=node in over) for node in "abc"] for over in ("", "a")
    )
    for each in (*firing, *ended):
        each["annotations"]["summary"] = f"Node {each['labels']['node']} fails"
    alertmanager.post(*firing)
    alertmanager.wait(lambda: notified.titles() and notified.titles()[-1] == "[ticket] Node a fails (and 2 more)")
    notified.clear()

    alertmanager.post(*ended)
    alertmanager.wait(notified.titles)

    assert notified.titles()[0] == "[ticket] Node b fails (and 1 more)"
    assert notified.slack[0]["attachments"][0]["text"].count("_Resolved:_") == 1


def test_worker_gone_inhibits_the_other_alerts_of_its_service(alertmanager: Alertmanager) -> None:
    """WorkerGone inhibits the other alerts of its service, including their end, and no other service's alerts."""
    notified = alertmanager.notified
    alertmanager.post(alert("AgentErrorRateHigh", "page"))
    alertmanager.wait(lambda: notified.pagerduty and notified.slack)
    notified.clear()
    alertmanager.post(alert("WorkerGone", "page"))
    alertmanager.wait(lambda: notified.pagerduty and notified.slack)
    notified.clear()

    alertmanager.post(
        alert("AgentErrorRateHigh", "page", ended=True),
        alert("WorkerDown", "ticket"),
        alert("WorkerDown", "ticket", service="another"),
    )
    alertmanager.wait(lambda: notified.slack)
    time.sleep(1)  # three times the longest group wait

    assert notified.titles() == ["[ticket] WorkerDown is here"]
    assert "another" in notified.slack[0]["attachments"][0]["fallback"]


def test_a_page_inhibits_its_own_ticket(alertmanager: Alertmanager) -> None:
    """A page inhibits the ticket of the same SLO or tenant, and no other."""
    notified = alertmanager.notified
    alertmanager.post(
        alert("WasteAnswerLatencyBudgetBurn", "page", slo="waste_answer"),
        alert("TenantDailyBudgetExceeded", "page", team="cost", tenant_id="acme"),
        alert("TenantMonthlyBudgetExceeded", "ticket", team="cost", tenant_id="acme"),
    )
    alertmanager.wait(lambda: len(notified.titles()) == 5)
    notified.clear()

    alertmanager.post(
        alert("WasteAnswerLatencyBudgetBurn", "ticket", slo="waste_answer"),
        alert("GeneralAnswerLatencyBudgetBurn", "ticket", slo="general_answer"),
        alert("TenantDailyBudgetExceeded", "ticket", team="cost", tenant_id="acme"),
        alert("TenantDailyBudgetExceeded", "ticket", team="cost", tenant_id="beta"),
        alert("TenantMonthlyBudgetNear", "ticket", team="cost", tenant_id="acme"),
        alert("TenantMonthlyBudgetNear", "ticket", team="cost", tenant_id="beta"),
    )
    alertmanager.wait(lambda: len(notified.titles()) == 3)
    time.sleep(1)  # three times the longest group wait

    assert sorted(notified.titles()) == [
        "[ticket] GeneralAnswerLatencyBudgetBurn is here",
        "[ticket] TenantDailyBudgetExceeded is here",
        "[ticket] TenantMonthlyBudgetNear is here",
    ]
    assert [message["channel"] for message in notified.slack].count("#eco2-cost") == 2
