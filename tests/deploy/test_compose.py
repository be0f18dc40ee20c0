"""The compose file: valid, not exposed beyond the loopback, and consistent with the files it mounts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from graph.jobs import QueueSettings
from graph.replay import KEYS
from graph.serving.http import bind
from graph.serving.ops import serve_ops
from graph.worker import WorkerSettings
from tests.support.programs import program

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
FILE = DEPLOY / "compose.yaml"
# PostgreSQL's releases have two numbers.
PINNED = re.compile(r"([\w./-]+:v?\d+\.\d+\.\d+|postgres:\d+\.\d+)(-[\w.]+)?(@sha256:[0-9a-f]{64})?")
# Read by OpenTelemetry's SDK, which LangSmith's SDK uses.
BY_OPENTELEMETRY = {"OTEL_SERVICE_NAME"}


@pytest.fixture
def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return content


def problems(compose: dict[str, Any]) -> list[str]:
    """Return the problems of a compose file in the ``deploy`` folder, one sentence each."""
    return [sentence for check in CHECKS for sentence in check(compose)]


def hardening(compose: dict[str, Any]) -> Iterator[str]:
    for name, service in compose["services"].items():
        if "image" in service and not PINNED.fullmatch(service["image"]):
            yield f"{name}: {service['image']} is not pinned"
        if "image" not in service and "build" not in service:
            yield f"{name}: neither an image nor a build"
        if service.get("cap_drop") != ["ALL"] or "no-new-privileges:true" not in service.get("security_opt", []):
            yield f"{name}: may gain privileges"
        if not service.get("healthcheck", {}).get("test"):
            yield f"{name}: no health check"
        for port in service.get("ports", []):
            if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port):
                yield f"{name}: {port} is published beyond the loopback"


def references(compose: dict[str, Any]) -> Iterator[str]:
    for name, service in compose["services"].items():
        for source, target in mounts(service):
            if source.startswith(".") and not (DEPLOY / source).exists():
                yield f"{name}: {source} for {target} is not there"
            if not source.startswith(".") and source not in compose["volumes"]:
                yield f"{name}: the volume {source} is not declared"
        folders = [target for source, target in mounts(service) if source.startswith(".")]
        targets = [target_of(secret) for secret in service.get("secrets", [])] + [
            target for _, target in mounts(service)
        ]
        for target in targets:
            # Nothing can be mounted inside a read-only mount.
            if any(target.startswith(f"{folder}/") for folder in folders):
                yield f"{name}: {target} lies inside another mount"
        for other in service.get("depends_on", {}):
            if other not in compose["services"]:
                yield f"{name}: waits for {other}, which is not a service"
        for secret in service.get("secrets", []):
            if source_of(secret) not in compose["secrets"]:
                yield f"{name}: the secret {source_of(secret)} is not declared"
        if build := service.get("build"):
            context = DEPLOY / build["context"]
            if not (context / build["dockerfile"]).is_file():
                yield f"{name}: {build['dockerfile']} is not there"
    used = {source_of(secret) for service in compose["services"].values() for secret in service.get("secrets", [])}
    for name, secret in compose["secrets"].items():
        if name not in used:
            yield f"the secret {name} is unused"
        if Path(secret["file"]).parent != Path("secrets"):
            yield f"the secret {name} lies in {secret['file']}, which git does not ignore"


def addresses(compose: dict[str, Any]) -> Iterator[str]:
    """Every host and port in a configuration is a service's."""
    offered = set(listening(compose))
    for where, address in named_addresses(compose):
        if address not in offered:
            yield f"{where}: nothing listens on {address[0]}:{address[1]}"
    for name, service in compose["services"].items():
        for port in re.findall(r"127\.0\.0\.1:(\d+)", " ".join(service["healthcheck"]["test"])):
            if (name, int(port)) not in offered:
                yield f"{name}: the health check uses port {port}"


def scraping(compose: dict[str, Any]) -> Iterator[str]:
    """Prometheus scrapes API and worker under the job that their rules select."""
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    targets = {
        job["job_name"]: [
            target
            for files in job["file_sd_configs"]
            for name in files["files"]
            for group in yaml.safe_load((DEPLOY / "prometheus" / name).read_text())
            for target in group["targets"]
        ]
        for job in config["scrape_configs"]
    }
    for server in ("api", "worker"):
        address = f"{server}:{compose['services'][server]['environment']['ECO2_METRICS_PORT']}"
        if targets.get(f"eco2-chat-{server}") != [address]:
            yield f"{server}: nobody scrapes {address}"


def links(compose: dict[str, Any]) -> Iterator[str]:
    """The links in alerts and notifications lead to the published ports, not to a container's own name."""
    for name in ("prometheus", "alertmanager"):
        service = compose["services"][name]
        (published,) = (port.rpartition(":")[0] for port in service["ports"])
        if f"--web.external-url=http://{published}" not in service["command"]:
            yield f"{name}: its links do not lead to {published}"


def settings(compose: dict[str, Any]) -> Iterator[str]:
    """API and worker read all their variables and secrets, and the values are valid."""
    code = sources()
    for server in ("api", "worker"):
        service = compose["services"][server]
        environment = service["environment"]
        for name in environment:
            if name not in BY_OPENTELEMETRY and f'"{name}"' not in code and f"`{name}`" not in code:
                yield f"{server}: nothing reads {name}"
        for secret in service["secrets"]:
            if secret not in {*KEYS, "LANGSMITH_API_KEY", Path(environment.get("ECO2_API_TOKENS_FILE", "")).name}:
                yield f"{server}: nothing reads the secret {secret}"
        QueueSettings.from_env(environment).check_shared()
        if (server, int(environment["ECO2_METRICS_PORT"])) not in set(listening(compose)):
            yield f"{server}: its port {environment['ECO2_METRICS_PORT']} is not published"
        grace_seconds = WorkerSettings.from_env(environment).grace_seconds
        if int(service["stop_grace_period"].removesuffix("s")) < grace_seconds + 10:
            yield f"{server}: is killed before its grace period ends"


def ledger(compose: dict[str, Any]) -> Iterator[str]:
    """API and worker share a ledger on PostgreSQL, and what it has not got yet outlives a container."""
    for server in ("api", "worker"):
        service = compose["services"][server]
        environment = service["environment"]
        if not environment.get("ECO2_LEDGER", "").startswith("postgresql://"):
            yield f"{server}: keeps no ledger on PostgreSQL"
        volumes = [target for source, target in mounts(service) if not source.startswith(".")]
        spool = environment.get("ECO2_LEDGER_SPOOL", "")
        if not any(spool.startswith(f"{target}/") for target in volumes):
            yield f"{server}: its ledger's spool in {spool} ends with the container"


def image(compose: dict[str, Any]) -> Iterator[str]:
    """The image runs both servers, not as root, with the ports and extras that they need."""
    lines = (DEPLOY / "Containerfile").read_text().splitlines()
    instructions = {word: [line.partition(" ")[2] for line in lines if line.startswith(f"{word} ")] for word in _WORDS}
    if json.loads(instructions["ENTRYPOINT"][-1])[-1:] != ["graph"]:
        yield f"worker: the image runs {instructions['ENTRYPOINT'][-1]}"
    for server in ("api", "worker"):
        service = compose["services"][server]
        if service["command"][0] != server:
            yield f"{server}: its command is {service['command']}"
        for _, port in ((name, port) for name, port in listening(compose) if name == server):
            if str(port) not in instructions["EXPOSE"][-1].split():
                yield f"{server}: the image exposes {instructions['EXPOSE'][-1]}, not {port}"
    if not instructions["USER"] or instructions["USER"][-1].startswith(("0", "root")):
        yield "worker: the image runs as root"
    for extra in ("graph", "serve", "otel"):
        if not all(f"--extra {extra}" in line for line in instructions["RUN"] if line.startswith("uv sync")):
            yield f"worker: the image lacks the extra {extra}"


_WORDS = ("ENTRYPOINT", "EXPOSE", "RUN", "USER")


def secret_files(compose: dict[str, Any]) -> Iterator[str]:
    """Every secret file in Alertmanager's configuration is mounted."""
    mounted = {target_of(secret) for secret in compose["services"]["alertmanager"].get("secrets", [])}
    for path in alertmanager_files():
        if path not in mounted:
            yield f"alertmanager: {path} is not one of its secrets"
    for path in mounted - set(alertmanager_files()):
        yield f"alertmanager: nothing reads {path}"


def dashboards(compose: dict[str, Any]) -> Iterator[str]:
    """Grafana's providers read the folder where the dashboards are mounted."""
    mounted = {target: DEPLOY / source for source, target in mounts(compose["services"]["grafana"])}
    for path in (DEPLOY / "grafana/provisioning/dashboards").glob("*.y*ml"):
        for provider in yaml.safe_load(path.read_text())["providers"]:
            folder = provider["options"]["path"]
            if folder not in mounted or not list(mounted[folder].glob("*.json")):
                yield f"grafana: {path.name} looks in {folder}, where no dashboard is mounted"


CHECKS: tuple[Callable[[dict[str, Any]], Iterator[str]], ...] = (
    hardening,
    references,
    addresses,
    scraping,
    links,
    settings,
    ledger,
    image,
    secret_files,
    dashboards,
)


def mounts(service: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for volume in service.get("volumes", []):
        source, target, *_ = volume.split(":")
        yield source, target


def source_of(secret: str | dict[str, str]) -> str:
    return secret if isinstance(secret, str) else secret["source"]


def target_of(secret: str | dict[str, str]) -> str:
    return f"/run/secrets/{secret}" if isinstance(secret, str) else secret["target"]


def listening(compose: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield the services' host names with their ports."""
    own = {"redis": [6379], "rabbitmq": [5672], "postgres": [5432], "jaeger": [4318, 13133]}  # not published
    for name, service in compose["services"].items():
        ports = [int(port.rpartition(":")[2]) for port in service.get("ports", [])]
        yield from ((name, port) for port in (*ports, *own.get(name, [])))


def named_addresses(compose: dict[str, Any]) -> Iterator[tuple[str, tuple[str, int]]]:
    for path in (DEPLOY / "prometheus/targets").glob("*.yaml"):
        for group in yaml.safe_load(path.read_text()):
            for target in group["targets"]:
                host, _, port = target.rpartition(":")
                yield f"targets/{path.name}", (host, int(port))
    for path in (DEPLOY / "grafana/provisioning/datasources").glob("*.y*ml"):
        for source in yaml.safe_load(path.read_text())["datasources"]:
            yield path.name, host_and_port(source["url"])
    for server in ("api", "worker"):
        for name, value in compose["services"][server]["environment"].items():
            if "://" in value and not value.startswith("sqlite:"):
                yield f"{server}, {name}", host_and_port(value)


def host_and_port(url: str) -> tuple[str, int]:
    (found,) = re.findall(r"^\w+://(?:[^/@]*@)?([\w.-]+):(\d+)", url)
    return found[0], int(found[1])


def alertmanager_files() -> list[str]:
    text = (DEPLOY / "alertmanager/alertmanager.yml").read_text()
    return sorted(set(re.findall(r"^\s*-?\s*\w+_file: *['\"]?([^\s'\"#]+)", text, re.MULTILINE)))


def sources() -> str:
    code = "".join(path.read_text() for path in sorted((ROOT / "graph").rglob("*.py")))
    return code + "".join(path.read_text() for path in sorted((ROOT / "eco2_callbacks").rglob("*.py"))) + _SETTINGS


# The handler derives LangSmith's variables from rules, so their names are not in its code. Another test checks the
# page's table against the handler.
_SETTINGS = (ROOT / "docs" / "settings.md").read_text().split("\n## ")[0]


def validated(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_is_valid_by_the_specification_s_schema() -> None:
    """The compose file is valid by the schema in check-jsonschema."""
    done = validated(FILE)

    assert done.returncode == 0, done.stdout


def test_the_schema_rejects_an_unknown_key(compose: dict[str, Any], tmp_path: Path) -> None:
    """The test above finds an unknown key."""
    compose["services"]["worker"]["helthcheck"] = {}
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump(compose))

    done = validated(tmp_path / "compose.yaml")

    assert done.returncode == 1
    assert "helthcheck" in done.stdout


def test_it_agrees_with_what_it_mounts_and_is_closed_to_the_outside(compose: dict[str, Any]) -> None:
    """Paths, ports, hosts, secrets and variables match on both sides."""
    assert problems(compose) == []


def _set(*path: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def break_it(compose: dict[str, Any]) -> None:
        *way, last = path
        node = compose["services"]
        for key in way:
            node = node[key]
        node[last] = to

    return break_it


@pytest.mark.parametrize(
    ("break_it", "problem"),
    [
        (_set("redis", "image", to="redis:latest"), "redis: redis:latest is not pinned"),
        (_set("grafana", "image", to="grafana/grafana"), "grafana: grafana/grafana is not pinned"),
        (_set("jaeger", "cap_drop", to=[]), "jaeger: may gain privileges"),
        (_set("grafana", "ports", to=["3000:3000"]), "grafana: 3000:3000 is published beyond the loopback"),
        (_set("redis", "healthcheck", to={"test": []}), "redis: no health check"),
        (_set("redis", "volumes", to=["data:/data"]), "redis: the volume data is not declared"),
        (_set("prometheus", "volumes", to=["./rules:/r"]), "prometheus: ./rules for /r is not there"),
        (_set("worker", "build", "dockerfile", to="Dockerfile"), "worker: Dockerfile is not there"),
        (_set("worker", "environment", "ECO2_REDIS", to="x"), "worker: nothing reads ECO2_REDIS"),
        (_set("worker", "secrets", to=["OPENAI_KEY"]), "worker: nothing reads the secret OPENAI_KEY"),
        (_set("worker", "stop_grace_period", to="10s"), "worker: is killed before its grace period ends"),
        (
            _set("worker", "environment", "ECO2_REDIS_URL", to="redis://cache:6379/0"),
            "worker, ECO2_REDIS_URL: nothing listens on cache:6379",
        ),
        (
            _set("api", "environment", "ECO2_AMQP_URL", to="amqp://guest:guest@broker:5672/"),
            "api, ECO2_AMQP_URL: nothing listens on broker:5672",
        ),
        (
            _set("worker", "environment", "ECO2_LEDGER", to="postgresql://eco2:eco2@db:5432/eco2"),
            "worker, ECO2_LEDGER: nothing listens on db:5432",
        ),
        (_set("api", "environment", "ECO2_LEDGER", to=""), "api: keeps no ledger on PostgreSQL"),
        (
            _set("worker", "environment", "ECO2_LEDGER_SPOOL", to="/tmp/spool"),
            "worker: its ledger's spool in /tmp/spool ends with the container",
        ),
        (_set("api", "command", to=["worker"]), "api: its command is ['worker']"),
        (_set("api", "secrets", to=["tokens"]), "api: nothing reads the secret tokens"),
        (
            _set("worker", "environment", "ECO2_METRICS_PORT", to="9000"),
            "worker: its port 9000 is not published",
        ),
        (
            _set("alertmanager", "ports", to=["127.0.0.1:9093:9094"]),
            "targets/alertmanager.yaml: nothing listens on alertmanager:9093",
        ),
        (_set("api", "environment", "ECO2_METRICS_PORT", to="9466"), "api: nobody scrapes api:9466"),
        (
            _set("prometheus", "ports", to=["127.0.0.1:9091:9090"]),
            "prometheus: its links do not lead to 127.0.0.1:9091",
        ),
        (_set("grafana", "secrets", to=[]), "the secret grafana_admin_password is unused"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_broken_is_found(
    compose: dict[str, Any], break_it: Callable[[dict[str, Any]], None], problem: str
) -> None:
    """Every check finds its problem."""
    break_it(compose)

    assert problem in problems(compose)


@pytest.mark.parametrize(("wrong", "healthy"), [("", True), ("stopping", False)])
def test_the_worker_s_health_check_follows_its_readiness(compose: dict[str, Any], wrong: str, healthy: bool) -> None:
    """The health check's command succeeds for a ready worker and fails for one that stops."""
    kind, program, *arguments = compose["services"]["worker"]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "python")

    listening = bind("127.0.0.1", 0)
    with listening, serve_ops(listening, CollectorRegistry(), alive=lambda: "", ready=lambda: wrong) as port:
        command = [sys.executable, *(argument.replace(":9464/", f":{port}/") for argument in arguments)]
        done = subprocess.run(command, capture_output=True, check=False)

    assert (done.returncode == 0) == healthy


@pytest.mark.parametrize("name", ["prometheus", "prometheus-alertmanager"])
def test_the_servers_know_their_options(compose: dict[str, Any], name: str) -> None:
    """Debian's programs, which are older than the images, accept every option."""
    done = subprocess.run([program(name, package=name), "--help"], capture_output=True, text=True, check=False)
    help_text = done.stdout + done.stderr
    service = compose["services"][name.removeprefix("prometheus-")]

    unknown = [option for option in service["command"] if option.partition("=")[0] not in help_text]

    assert unknown == []
