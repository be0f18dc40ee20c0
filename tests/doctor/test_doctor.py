"""eco2 doctor: set-ups that are broken on purpose, each with its finding and its remedy."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import Distribution
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from eco2_callbacks.cli import main
from eco2_callbacks.doctor import Finding, examine
from eco2_callbacks.doctor.packages import check_packages, check_price_age

SECRET = "lsv2_pt_this_is_a_secret_value"
TRACED = {"LANGSMITH_TRACING": "true", "LANGSMITH_API_KEY": SECRET}


class Server:
    """A server that gives each path a status and a body, and may have another clock."""

    def __init__(self, answers: dict[str, tuple[int, object]], *, clock: timedelta = timedelta()) -> None:
        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, body = next((given for path, given in answers.items() if path in self.path), (404, ""))
                self.send_response_only(status)
                self.send_header("Date", format_datetime(datetime.now(UTC) + clock, usegmt=True))
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            do_GET = do_POST = _answer  # noqa: N815 # the base class's names

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> str:
        self._thread = Thread(target=self._server.serve_forever)
        self._thread.start()
        return self.url

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def found(check: str, findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.check == check and finding.level != "ok"]


@pytest.mark.parametrize(
    ("environ", "check", "level", "message"),
    [
        pytest.param(
            {"LANGSMITH_TRACING": "yes"},
            "langsmith-settings",
            "warning",
            "wanted 'true'",
            id="no_switch",
        ),
        pytest.param(
            {"LANGSMITH_TRACING": "true"}, "langsmith-settings", "warning", "LANGSMITH_API_KEY is unset", id="no_key"
        ),
        pytest.param(
            {**TRACED, "LANGSMITH_TRACING_SAMPLING_RATE": "2"},
            "langsmith-settings",
            "error",
            "wanted a number from 0 to 1",
            id="refused_setting",
        ),
        pytest.param(
            {"LANGCHAIN_API_KEY": "lsv2_old", "LANGSMITH_API_KEY": "lsv2_new"},
            "old-names",
            "warning",
            "LANGCHAIN_API_KEY is set, and LANGSMITH_API_KEY has another value",
            id="old_and_new_name",
        ),
        pytest.param({"OPENAI_API_KEY": "'sk-abc'"}, "key-format", "error", "holds a blank, a quote", id="quoted_key"),
        pytest.param(
            {"OPENAI_API_KEY": "sk-ant-abc-def", "ANTHROPIC_API_KEY": "sk-proj-abc"},
            "key-format",
            "warning",
            "ANTHROPIC_API_KEY does not begin with 'sk-ant-'; it looks like a value of OPENAI_API_KEY",
            id="swapped_keys",
        ),
        pytest.param(
            {**TRACED, "LANGSMITH_HIDE_OUTPUTS": "true"},
            "hidden-usage",
            "warning",
            "hides the tokens",
            id="hidden_usage",
        ),
        pytest.param(
            {"OPENAI_BASE_URL": "https://user:pass-word@gateway.example/v1"},
            "stream-usage",
            "warning",
            "OPENAI_BASE_URL is https://gateway.example: ChatOpenAI then asks for no usage",
            id="own_base_url",
        ),
        pytest.param(
            {"ECO2_PRICES": "/no/such/file.toml"}, "custom-rates", "error", "ECO2_PRICES cannot be used", id="no_rates"
        ),
        pytest.param(
            {"PROMETHEUS_MULTIPROC_DIR": "/no/such/folder"},
            "multiprocess",
            "error",
            "which is no folder that can be written",
            id="multiprocess_folder",
        ),
        pytest.param(
            {"ECO2_LEDGER": "mysql://user:pass-word@host/db"}, "ledger", "error", "cannot be read", id="unknown_ledger"
        ),
    ],
)
def test_a_broken_environment(
    environ: dict[str, str], check: str, level: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each mistake in the variables has a finding with a remedy, and none shows a secret."""
    monkeypatch.setattr("eco2_callbacks.doctor.services.Services.langsmith", lambda self: iter(()))

    findings = examine(environ=environ)

    matching = [finding for finding in found(check, findings) if message in finding.message]
    assert [finding.level for finding in matching] == [level]
    assert matching[0].remedy
    shown = str(findings)
    assert all(secret not in shown for secret in (SECRET, "pass-word", "sk-abc", "sk-ant-abc-def", "lsv2_new"))


@pytest.mark.parametrize(
    ("variable", "url", "check"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:{port}", "otlp"),
        ("ECO2_REDIS_URL", "redis://:pass-word@127.0.0.1:{port}/0", "redis"),
        ("ECO2_AMQP_URL", "amqp://guest:pass-word@127.0.0.1:{port}/", "broker"),
        ("ECO2_PROMETHEUS_URL", "http://127.0.0.1:{port}", "prometheus"),
    ],
)
def test_a_service_that_does_not_answer(variable: str, url: str, check: str) -> None:
    """A service that is down is an error that names its variable, without the password."""
    findings = examine(environ={variable: url.format(port=closed_port())})

    (finding,) = found(check, findings)
    assert finding.level == "error"
    assert variable in finding.remedy
    assert "pass-word" not in str(findings)


def test_langsmith_that_refuses_the_key() -> None:
    """A key of another workspace or region is an error; the key itself is not shown."""
    with Server({"/sessions": (403, "")}) as url:
        findings = examine(environ={**TRACED, "LANGSMITH_ENDPOINT": url})

    (finding,) = found("langsmith", findings)
    assert (finding.level, "refuses the key (403)" in finding.message) == ("error", True)
    assert SECRET not in str(findings)


def test_an_otlp_address_with_a_wrong_path() -> None:
    """A receiver that knows no /v1/traces is an error."""
    with Server({}) as url:
        (finding,) = found("otlp", examine(environ={"OTEL_EXPORTER_OTLP_ENDPOINT": f"{url}/wrong"}))

    assert "has no /v1/traces" in finding.message


@pytest.mark.slow
def test_a_broker_that_is_none() -> None:
    """A web server behind ECO2_AMQP_URL is no broker."""
    with Server({}) as url:
        (finding,) = found("broker", examine(environ={"ECO2_AMQP_URL": url.replace("http", "amqp")}))

    assert finding.level == "error"


@pytest.mark.parametrize(("minutes", "side"), [(60, "behind"), (-60, "ahead of")])
def test_a_wrong_clock(minutes: int, side: str) -> None:
    """An hour's difference to a server that answers is a warning: prices and reports go by the day."""
    with Server({"": (200, {})}, clock=timedelta(minutes=minutes)) as url:
        (finding,) = found("clock", examine(environ={"OTEL_EXPORTER_OTLP_ENDPOINT": url}))

    assert side in finding.message


def prometheus(*, series: bool, health: str = "up", age: timedelta = timedelta(seconds=1)) -> Server:
    labels = {"job": "eco2", "instance": "app:9464"}
    target = {
        "labels": labels,
        "health": health,
        "lastError": "" if health == "up" else "connection refused",
        "lastScrape": (datetime.now(UTC) - age).isoformat(),
        "scrapeInterval": "15s",
    }
    result = [{"metric": labels, "value": [0, "1"]}] if series else []
    answers: dict[str, tuple[int, object]] = {
        "/query": (200, {"data": {"result": result}}),
        "/targets": (200, {"data": {"activeTargets": [target]}}),
    }
    return Server(answers)


@pytest.mark.parametrize(
    ("server", "level", "message"),
    [
        pytest.param({"series": True}, "ok", "Target app:9464 of job eco2 is up, scraped", id="well"),
        pytest.param({"series": True, "health": "down"}, "error", "is down: connection refused", id="down"),
        pytest.param({"series": False, "health": "down"}, "error", "is down: connection refused", id="never_scraped"),
        pytest.param({"series": False}, "error", "has no series of a handler", id="no_series"),
        pytest.param(
            {"series": True, "age": timedelta(minutes=5)}, "warning", "wanted at most 45 s", id="not_scraped_for_long"
        ),
    ],
)
def test_prometheus_is_asked_for_our_target(server: dict[str, Any], level: str, message: str) -> None:
    """Is our target up, and when was the last scrape?"""
    with prometheus(**server) as url:
        findings = examine(environ={}, prometheus=url)

    assert [f.level for f in findings if f.check == "prometheus" and message in f.message] == [level]


def test_old_prices() -> None:
    """Price data that is older than 90 days is a warning."""
    assert list(check_price_age()) == []
    (finding,) = check_price_age(datetime.now(UTC) + timedelta(days=400))
    assert (finding.level, "days old" in finding.message) == ("warning", True)


def test_contradicting_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is too old for another one is an error with the command that helps."""
    assert list(check_packages()) == []
    monkeypatch.setattr(Distribution, "requires", property(lambda package: ["msgspec>=99", "no-such-package>=1"]))

    findings = list(check_packages())

    assert {finding.level for finding in findings} == {"error"}
    assert any("needs msgspec>=99, which is " in finding.message for finding in findings)
    assert any("no-such-package>=1, which is not installed" in finding.message for finding in findings)
    assert findings[0].remedy == "pip install 'msgspec>=99'"


SOURCES = {
    "stream_usage_off": ("ChatOpenAI(stream_usage=False, max_retries=0)", "stream-usage", "warning"),
    "own_base_url": ("ChatOpenAI(base_url='http://gateway', max_retries=0)", "stream-usage", "warning"),
    "own_client": ("ChatOpenAI(http_client=client, max_retries=0)", "stream-usage", "warning"),
    "sdk_retries": ("ChatOpenAI()", "sdk-retries", "info"),
    "same_handler_twice": ("g.invoke(x, {'callbacks': [h, h]})", "handler-twice", "warning"),
    "two_handlers": (
        "a = Eco2CallbackHandler()\nb = Eco2CallbackHandler()\ng.invoke(x, config={'callbacks': [a, b]})",
        "handler-twice",
        "warning",
    ),
    "detached": ("model.invoke(x, {'callbacks': []})", "past-handler", "warning"),
    "sdk_call": ("import openai\nopenai.OpenAI().chat.completions.create(model='m')", "past-handler", "warning"),
    "gemini_call": ("from google import genai\nc.models.generate_content(model='m')", "past-handler", "warning"),
    "embeddings": ("store = Store(OpenAIEmbeddings())", "past-handler", "warning"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_mistake_in_the_source(name: str, tmp_path: Path) -> None:
    """The source is read, never run; the finding names file and line."""
    source, check, level = SOURCES[name]
    (tmp_path / "app.py").write_text(source)

    (finding,) = found(check, examine(tmp_path, environ={}))

    assert (finding.level, finding.where.startswith(f"{tmp_path / 'app.py'}:")) == (level, True)
    assert finding.remedy


def test_a_sound_application_has_no_findings(tmp_path: Path) -> None:
    """What follows the remedies is not reported; tests and installed packages are not read."""
    (tmp_path / "app.py").write_text(
        "import openai\n"
        "handler = Eco2CallbackHandler()\nhandler.install()\n"
        "model = handler.count_sdk_retries(ChatOpenAI(base_url='http://gateway', stream_usage=True))\n"
        "embeddings = MeasuredEmbeddings(OpenAIEmbeddings())\n"
        "with handler.call(provider='openai', model='m') as call:\n"
        "    call.answered(openai.OpenAI().chat.completions.create(model='m'))\n"
        "model.invoke(x, {'callbacks': [handler]})\n"
    )
    for folder in ("tests", ".venv", "node_modules"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "other.py").write_text("ChatOpenAI()")

    findings = examine(tmp_path, environ={})

    assert [finding for finding in findings if finding.level not in ("ok", "info")] == []
    assert found("sdk-retries", findings) == []


def test_a_file_that_cannot_be_parsed_is_named(tmp_path: Path) -> None:
    """Nothing is skipped in silence."""
    (tmp_path / "app.py").write_text("def (")

    (finding,) = found("source", examine(tmp_path, environ={}))

    assert (finding.level, finding.where) == ("info", str(tmp_path / "app.py"))


def test_a_check_that_fails_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken check is a finding of its own, without the secret in its exception."""

    def broken(self: object) -> Iterator[Finding]:
        raise RuntimeError(f"boom {SECRET}")
        yield

    monkeypatch.setattr("eco2_callbacks.doctor.services.Services.redis", broken)

    findings = examine(environ={"LANGSMITH_API_KEY": SECRET})

    (finding,) = found("redis", findings)
    assert finding.message == "The check could not be made: RuntimeError: boom ***."
    assert {"versions", "prometheus", "clock"} <= {finding.check for finding in findings}


@contextmanager
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import os

    for name in list(os.environ):
        if name.startswith(("LANG", "OPENAI", "ECO2", "OTEL", "GOOGLE", "GEMINI", "ANTHROPIC", "PROMETHEUS")):
            monkeypatch.delenv(name)
    yield


@pytest.mark.parametrize(
    ("environ", "arguments", "status"),
    [
        pytest.param({}, (), 0, id="well"),
        pytest.param({"OPENAI_BASE_URL": "http://x"}, (), 0, id="warning"),
        pytest.param({"OPENAI_BASE_URL": "http://x"}, ("--strict",), 1, id="strict"),
        pytest.param({"PROMETHEUS_MULTIPROC_DIR": "/no/such"}, (), 1, id="error"),
    ],
)
def test_the_command_has_an_exit_status_for_scripts(
    environ: dict[str, str],
    arguments: tuple[str, ...],
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """0 without an error, 1 with one; --json prints all findings and the status."""
    with clean(monkeypatch):
        for name, value in environ.items():
            monkeypatch.setenv(name, value)

        assert main(["doctor", "--no-source", *arguments]) == status
        shown = capsys.readouterr().out
        assert main(["doctor", "--no-source", "--json", *arguments]) == status
        document = json.loads(capsys.readouterr().out)

    assert document["status"] == status
    assert {"check", "level", "message", "remedy", "where"} == set(document["findings"][0])
    assert all(finding["message"] in shown for finding in document["findings"])


def test_a_folder_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong path is status 2, as for every command."""
    assert main(["doctor", "/no/such/folder"]) == 2
    assert "'/no/such/folder' does not exist, wanted the application's folder" in capsys.readouterr().err
