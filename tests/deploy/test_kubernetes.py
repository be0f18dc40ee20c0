"""The Kubernetes manifests: valid by their schemas, and consistent with each other and with the program."""

from __future__ import annotations

import json
import logging
import re
import runpy
import subprocess
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

import graph.clients
import graph.models
from eco2_callbacks import Settings
from graph.jobs import JobMetrics
from tests.support.cross_checks import CHECKS, JOB, SERVERS
from tests.support.manifests import (
    ARGOCD,
    BASE,
    DEPLOY,
    OVERLAYS,
    PLAIN,
    ROOT,
    Deployed,
    Manifest,
    documents,
    read_base,
    render_overlay,
    schema_problems,
)
from tests.support.programs import program

BUDGET = DEPLOY / "kubernetes" / "overlays" / "prod" / "poddisruptionbudget.yaml"
CLIENTS = tuple(import_module(f"graph.clients.{module.name}") for module in iter_modules(graph.clients.__path__))


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> Deployed:
    return render_overlay(request.param)


@pytest.fixture(params=("base", *OVERLAYS))
def deployed(request: pytest.FixtureRequest) -> Deployed:
    return read_base() if request.param == "base" else render_overlay(request.param)


# Schemas


@pytest.mark.parametrize("path", PLAIN, ids=lambda path: path.relative_to(DEPLOY).as_posix())
def test_a_file_is_accepted_by_the_api_server(path: Path) -> None:
    """Every manifest in the repository fits the strict schema of its kind."""
    assert [problem for item in documents(path) for problem in schema_problems(item)] == []


def test_an_overlay_is_accepted_by_the_api_server(overlay: Deployed) -> None:
    """Every object of an overlay fits the strict schema of its kind."""
    assert [problem for item in overlay.objects for problem in schema_problems(item)] == []


REFUSED: dict[str, tuple[str, str, Any, str]] = {
    "core_unknown_field": ("Deployment", "spec.template.spec.containers.0.imagePolicy", "Always", "imagePolicy"),
    "core_wrong_type": ("Service", "spec.ports.0.port", "9464", "not of type 'integer'"),
    "core_unknown_kind": ("PodDisruptionBudget", "apiVersion", "policy/v1beta9", "Couldn't find schema"),
    "core_unknown_metadata": ("ServiceAccount", "metadata.lables", {}, "lables"),
    "custom_unknown_field": ("ScaledObject", "spec.minReplicas", 1, "minReplicas"),
    "custom_unknown_root_field": ("ServiceEntry", "specs", {}, "specs"),
    "custom_wrong_type": ("ScaledObject", "spec.triggers.0.metadata.threshold", 20, "not of type 'string'"),
    "custom_not_in_a_set": ("ServiceEntry", "spec.resolution", "DNSS", "DNSS"),
    "custom_bad_duration": ("ServiceMonitor", "spec.endpoints.0.interval", "15 s", "15 s"),
    "custom_missing_field": ("ServiceEntry", "spec.hosts", None, "'hosts' is a required property"),
    "custom_missing_spec": ("ExternalSecret", "spec", None, "'spec' is a required property"),
    "custom_missing_kind_field": ("PrometheusRule", "metadata.name", None, "no name"),
    "custom_unknown_kind": ("ScaledObject", "apiVersion", "keda.sh/v9", "no schema"),
    "custom_unknown_metadata": ("PrometheusRule", "metadata.lables", {}, "lables"),
}


@pytest.mark.parametrize(("kind", "path", "value", "problem"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_manifest_is_refused(kind: str, path: str, value: Any, problem: str) -> None:
    """An unknown field, a wrong value or a missing field is reported, in core kinds and custom kinds."""
    broken = next(item for path in PLAIN for item in documents(path) if item["kind"] == kind)

    _put(broken, path, value)

    assert any(problem in found for found in schema_problems(broken))


# Consistency


@pytest.mark.parametrize("check", CHECKS)
def test_what_belongs_together_agrees(check: str, deployed: Deployed) -> None:
    """Labels, ports, secrets, hosts, scaling and variables agree with each other and with the program."""
    assert list(CHECKS[check](deployed)) == []


def _append(path: str, value: Any) -> Callable[[Deployed], None]:
    def broken(deployed: Deployed) -> None:
        kind, _, rest = path.partition(".")
        at = deployed.one(kind)
        for step in rest.split("."):
            at = at[int(step) if step.isdecimal() else step]
        at.append(value)

    return broken


def _set(path: str, value: Any, name: str = "eco2-chat-worker") -> Callable[[Deployed], None]:
    kind, _, rest = path.partition(".")
    return lambda deployed: _put(deployed.one(kind, name), rest, value)


def _variable(name: str, value: str | None) -> Callable[[Deployed], None]:
    return _set(f"ConfigMap.data.{name}", value)


_POD = "Deployment.spec.template.spec"
_WORKER = f"{_POD}.containers.0"
_TRIGGER = "ScaledObject.spec.triggers.0"
BROKEN: dict[str, tuple[str, Callable[[Deployed], None]]] = {
    "selectors_deployment": ("selectors", _set("Deployment.spec.selector.matchLabels", {"app": "worker"})),
    "selectors_service": ("selectors", _set("Service.spec.selector", {"app": "worker"})),
    "selectors_none": ("selectors", _set("Service.spec.selector", {})),
    "selectors_monitor": ("selectors", _set("ServiceMonitor.spec.selector.matchLabels", {"app": "worker"})),
    "selectors_policy": ("selectors", _set("NetworkPolicy.spec.podSelector.matchLabels", {"app": "worker"})),
    "selectors_budget": ("selectors", _set("PodDisruptionBudget.spec.selector.matchLabels", {"app": "worker"})),
    "selectors_spread": (
        "selectors",
        _set(f"{_POD}.topologySpreadConstraints.1.labelSelector.matchLabels", {"app": "worker"}),
    ),
    "ports_container": ("ports", _set(f"{_WORKER}.ports.0.containerPort", 8000)),
    "ports_variable": ("ports", _variable("ECO2_METRICS_PORT", "8000")),
    "ports_probe": ("ports", _set(f"{_WORKER}.livenessProbe.httpGet.port", "http")),
    "ports_service": ("ports", _set("Service.spec.ports.0.targetPort", "http")),
    "ports_monitor": ("ports", _set("ServiceMonitor.spec.endpoints.0.port", "metrics")),
    "ports_policy": ("ports", _set("NetworkPolicy.spec.ingress.0.ports.0.port", 8000)),
    "ports_istio": (
        "ports",
        lambda deployed: deployed.one("Deployment")["spec"]["template"]["metadata"]["annotations"].update(
            {"traffic.sidecar.istio.io/excludeInboundPorts": "8000"}
        ),
    ),
    "probes": ("probes", _set(f"{_WORKER}.livenessProbe.httpGet.path", "/readyz")),
    "variables": ("variables", _variable("ECO2_REDIS_URI", "redis://redis")),
    "both_names_differ": ("both_names", _variable("LANGCHAIN_TRACING_V2", "false")),
    "both_names_one": ("both_names", _variable("LANGCHAIN_ENDPOINT", None)),
    "secrets_not_filled": ("secrets", _set(f"{_WORKER}.env.3.valueFrom.secretKeyRef.key", "openai")),
    "secrets_unread": ("secrets", _set(f"{_WORKER}.env.5", None)),
    "secrets_store": (
        "secrets",
        _set("ExternalSecret.spec.secretStoreRef.name", "vault", name="eco2-chat-worker-models"),
    ),
    "secrets_parameter": (
        "secrets",
        _set("ExternalSecret.spec.data.0.remoteRef.key", "/eco/langsmith/api-key", name="eco2-chat-worker-models"),
    ),
    "hosts_missing": ("hosts", _set("ServiceEntry.spec.hosts", ["api.data.go.kr"], name="korean-services")),
    "hosts_unasked": ("hosts", _set("ServiceEntry.spec.hosts", ["api.openai.com", "x.ai"], name="openai")),
    "hosts_protocol": ("hosts", _set("ServiceEntry.spec.ports.0.protocol", "HTTP", name="gemini")),
    "scaling_target": ("scaling", _set("ScaledObject.spec.scaleTargetRef.name", "worker")),
    "scaling_replicas": ("scaling", _set("Deployment.spec.replicas", 3)),
    "scaling_null": ("scaling", _set(f"{_TRIGGER}.metadata.ignoreNullValues", None)),
    "scaling_metric": ("scaling", _set(f"{_TRIGGER}.metricType", "Value")),
    "scaling_fallback": ("scaling", _set("ScaledObject.spec.fallback.replicas", 100)),
    "scaling_several_results": (
        "scaling",
        _set(f"{_TRIGGER}.metadata.query", 'sum by (pod) (chat_worker_slots_busy{namespace="eco2"})'),
    ),
    "scaling_no_aggregate": ("scaling", _set(f"{_TRIGGER}.metadata.query", 'chat_worker_slots_busy{namespace="eco2"}')),
    "scaling_never": ("scaling", _set(f"{_TRIGGER}.metadata.threshold", "41")),
    "scaling_other_queue": ("scaling", _set("ScaledObject.spec.triggers.1.metadata.queueName", "chat")),
    "scaling_no_queue": ("scaling", lambda deployed: deployed.one("ScaledObject")["spec"]["triggers"].pop()),
    "grace": ("grace", _set(f"{_POD}.terminationGracePeriodSeconds", 60)),
    "egress_redis": ("egress", _variable("ECO2_REDIS_URL", "redis://redis.eco2.svc.cluster.local:6380/0")),
    "egress_otlp": ("egress", _variable("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4319")),
    "egress_https": ("egress", _set("NetworkPolicy.spec.egress.3.ports.0.port", 80)),
    "egress_everywhere": ("egress", _append("NetworkPolicy.spec.egress", {"ports": [{"protocol": "TCP", "port": 1}]})),
    "egress_amqp": (
        "egress",
        lambda deployed: deployed.one("NetworkPolicy", "eco2-chat-api")["spec"]["egress"][1]["ports"].pop(),
    ),
    "egress_ledger": (
        "egress",
        lambda deployed: deployed.one("NetworkPolicy", "eco2-chat-worker")["spec"]["egress"][1]["ports"].pop(),
    ),
    "ledger": ("ledger", _set(f"{_WORKER}.env.10.valueFrom.secretKeyRef.name", "eco2-chat-worker-queue")),
    "security_spool": ("security", _variable("ECO2_LEDGER_SPOOL", "/var/spool")),
    "ports_api": ("ports", _set(f"{_WORKER}.ports.1.containerPort", 8080, name="eco2-chat-api")),
    "security_api": ("security", _set(f"{_POD}.securityContext.runAsUser", 0, name="eco2-chat-api")),
    "security_root": ("security", _set(f"{_POD}.securityContext.runAsUser", 0)),
    "security_writable": ("security", _set(f"{_WORKER}.securityContext.readOnlyRootFilesystem", False)),
    "security_capabilities": ("security", _set(f"{_WORKER}.securityContext.capabilities", {"drop": ["NET_RAW"]})),
    "security_host": ("security", _set(f"{_POD}.hostNetwork", True)),
    "security_volume": ("security", _set(f"{_POD}.volumes.0", {"name": "tmp", "hostPath": {"path": "/tmp"}})),
    "security_token": ("security", _set(f"{_POD}.automountServiceAccountToken", None)),
    "security_memory": ("security", _set(f"{_WORKER}.resources.limits", {"cpu": "1"})),
    "job_label_service": ("job_label", _set("ServiceMonitor.spec.jobLabel", "app.kubernetes.io/part-of")),
    "job_label_rule": (
        "job_label",
        _append("PrometheusRule.spec.groups.0.rules", {"alert": "Gone", "expr": 'up{job="worker"} == 0'}),
    ),
    "job_label_no_page": (
        "job_label",
        lambda deployed: deployed.one("PrometheusRule", "eco2-chat-api")["spec"]["groups"].pop(),
    ),
    "namespaces_two": ("namespaces", _set("Service.metadata.namespace", "default")),
    "namespaces_not_all": ("namespaces", _set("Service.metadata.namespace", "eco2")),
    "namespaces_query": ("namespaces", _set(f"{_TRIGGER}.metadata.query", "sum(chat_worker_slots_busy)")),
    "image_latest": ("image", _set(f"{_WORKER}.image", "ghcr.io/eco2-team/eco2-chat-worker:latest")),
    "image_moves": ("image", _set(f"{_WORKER}.image", "ghcr.io/eco2-team/eco2-chat-worker:main")),
}


@pytest.mark.parametrize(("check", "breaks"), BROKEN.values(), ids=BROKEN)
def test_what_disagrees_is_found(check: str, breaks: Callable[[Deployed], None]) -> None:
    """Each check finds its contradiction. The test needs no kustomize, so it runs on every machine."""
    deployed = read_base()
    deployed.objects += documents(BUDGET)
    assert list(CHECKS[check](deployed)) == []

    breaks(deployed)

    assert list(CHECKS[check](deployed)) != []


def test_every_check_is_known_to_find_something() -> None:
    """Every check has a manifest above that breaks it."""
    assert {check for check, _ in BROKEN.values()} == CHECKS.keys()


# The environment


@pytest.fixture
def environment(overlay: Deployed, clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The worker's variables. The value of a secret is its name."""
    values = overlay.environment()
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


def test_the_environment_causes_no_warning(environment: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    """With the rendered variables tracing uses the overlay's own project, and the settings log no warning."""
    with caplog.at_level(logging.WARNING, "eco2_callbacks"):
        settings = Settings.from_env(environment)

    assert [record.getMessage() for record in caplog.records] == []
    assert (settings.tracing, settings.langsmith_endpoint, settings.otel) == (
        True,
        "https://api.smith.langchain.com",
        "off",
    )
    assert (settings.environment, settings.project) in {("dev", "eco2-chat-dev"), ("production", "eco2-chat-prod")}


def test_a_contradiction_causes_a_warning(environment: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    """If one of the two names of a switch is off, the settings log a warning."""
    with caplog.at_level(logging.WARNING, "eco2_callbacks"):
        Settings.from_env(environment | {"LANGCHAIN_TRACING_V2": "false"})

    assert ["outranks" in record.getMessage() for record in caplog.records] == [True]


def test_otlp_is_one_switch_away(environment: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    """With LANGSMITH_OTEL_ENABLED runs also go to the collector, without a warning."""
    with caplog.at_level(logging.WARNING, "eco2_callbacks"):
        settings = Settings.from_env(environment | {"LANGSMITH_OTEL_ENABLED": "true"})

    assert [record.getMessage() for record in caplog.records] == []
    assert (settings.otel, settings.otlp_endpoint) == (
        "hybrid",
        "http://otel-collector.observability.svc.cluster.local:4318/v1/traces",
    )


def test_the_environment_is_enough(environment: dict[str, str]) -> None:
    """The rendered variables are enough to create every model and client, including the image model."""
    graph.models.check()
    graph.models.with_images("image_generation")

    services = {
        client.__name__: client.from_env()
        for module in CLIENTS
        for client in vars(module).values()
        if isinstance(client, type) and client.__module__ == module.__name__ and hasattr(client, "from_env")
        if not client.__subclasses__()
    }

    assert len(services) == 6


# Prometheus


def test_the_rules_are_those_of_prometheus() -> None:
    """Each PrometheusRule is the current output of its script."""
    script = runpy.run_path(str(DEPLOY / "kubernetes" / "prometheusrule.py"))

    assert {path: path.read_text("utf-8") for path in BASE.glob("prometheusrule*.yaml")} == {
        path: script["render"](*source) for path, source in script["TARGETS"].items()
    }


def test_without_rules_no_rule_is_written(tmp_path: Path) -> None:
    """An empty directory of rules is an error, not a PrometheusRule without alerts."""
    script = tmp_path / "kubernetes" / "prometheusrule.py"
    script.parent.mkdir()
    script.write_text((DEPLOY / "kubernetes" / "prometheusrule.py").read_text("utf-8"), "utf-8")

    with pytest.raises(ValueError, match="holds no group of rules"):
        runpy.run_path(str(script))["render"]("rules", tmp_path)


@pytest.mark.parametrize("name", ["prometheusrule.yaml", "prometheusrule-api.yaml"])
def test_the_operator_can_hand_the_rules_to_prometheus(name: str, tmp_path: Path) -> None:
    """Promtool accepts the rules as the operator writes them."""
    (rule,) = documents(BASE / name)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]), "utf-8")

    _promtool("check", "rules", str(tmp_path / "rules.yaml"))


@pytest.mark.parametrize(("pods", "result"), [(3, 12), (1, 4), (0, None)], ids=["three", "one", "none"])
def test_the_autoscaler_gets_one_number(pods: int, result: int | None, tmp_path: Path) -> None:
    """The autoscaler's query yields one number for any number of pods, and nothing if none is scraped."""
    query = read_base().one("ScaledObject")["spec"]["triggers"][0]["metadata"]["query"]
    scraped = f'namespace="eco2", job="{JOB}"'
    series = [{"series": f'chat_worker_slots_busy{{{scraped}, pod="{pod}"}}', "values": "4"} for pod in range(pods)]
    other = {"series": 'chat_worker_slots_busy{namespace="elsewhere", job="eco2-chat-worker"}', "values": "100"}
    samples = [] if result is None else [{"labels": "{}", "value": result}]
    test = {
        "tests": [
            {
                "input_series": [*series, other],
                "promql_expr_test": [{"expr": query, "eval_time": "0", "exp_samples": samples}],
            }
        ]
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(test), "utf-8")

    _promtool("test", "rules", str(tmp_path / "test.yaml"))


def test_the_autoscaler_s_metric_exists() -> None:
    """The autoscaler's metric is in the exposition of a fresh process."""
    query = read_base().one("ScaledObject")["spec"]["triggers"][0]["metadata"]["query"]

    names = re.findall(r"\b([a-z_]+)\{", promql_parser.parse(query).prettify())

    registry = CollectorRegistry()
    JobMetrics(registry)
    exposition = generate_latest(registry).decode()
    assert [bool(re.search(rf"^{name} ", exposition, re.MULTILINE)) for name in names] == [True]


# Dashboards


def test_every_dashboard_is_a_config_map(overlay: Deployed) -> None:
    """The ConfigMaps hold the dashboards unchanged, labelled for Grafana's sidecar, each below 1 MiB."""
    made = {
        name: text
        for item in overlay.all("ConfigMap")
        if item["metadata"]["labels"].get("grafana_dashboard") == "1"
        for name, text in item["data"].items()
    }

    assert made == {path.name: path.read_text("utf-8") for path in (DEPLOY / "grafana").glob("eco2-*.json")}
    assert {json.loads(text)["uid"] for text in made.values()} == {
        "eco2-cost",
        "eco2-nodes",
        "eco2-overview",
        "eco2-streaming",
    }
    assert max(len(text.encode()) for text in made.values()) < 2**20


# Overlays


def test_dev_is_small() -> None:
    """dev runs one worker and at most two."""
    dev = render_overlay("dev")

    spec = dev.one("ScaledObject")["spec"]

    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, 2)


def test_prod_survives_a_node() -> None:
    """prod runs several workers, evicts one at a time, and stores conversations where all workers find them."""
    prod = render_overlay("prod")

    spec = prod.one("ScaledObject")["spec"]

    assert spec["minReplicaCount"] >= 3
    assert spec["maxReplicaCount"] > spec["minReplicaCount"]
    assert {name: prod.one("PodDisruptionBudget", name)["spec"]["maxUnavailable"] for name in SERVERS} == dict.fromkeys(
        SERVERS, 1
    )
    assert prod.environment()["ECO2_CHECKPOINTS"] == "eco2-chat-worker-checkpoints/postgres-url"


# ArgoCD


def test_an_application_applies_its_overlay() -> None:
    """Each Application deploys its overlay into its namespace, and ignores the replicas set by the autoscaler."""
    applications = {path.stem: documents(path)[0]["spec"] for path in ARGOCD.glob("*.yaml")}

    assert applications.keys() == set(OVERLAYS)
    for name, spec in applications.items():
        deployed = render_overlay(name)
        (namespace,) = deployed.all("Namespace")
        (ignored,) = spec["ignoreDifferences"]
        assert spec["source"]["path"] == f"deploy/kubernetes/overlays/{name}"
        assert spec["destination"]["namespace"] == namespace["metadata"]["name"]
        assert ignored == {
            "group": "apps",
            "kind": "Deployment",
            "name": deployed.one("Deployment")["metadata"]["name"],
            "jsonPointers": ["/spec/replicas"],
        }
        assert {"ServerSideApply=true", "RespectIgnoreDifferences=true"} <= set(spec["syncPolicy"]["syncOptions"])
    assert len({spec["source"]["repoURL"] for spec in applications.values()}) == 1
    assert len({spec["destination"]["name"] for spec in applications.values()}) == 2


def test_prod_runs_the_version_whose_manifests_it_applies() -> None:
    """prod's Application uses the tag of its image's version."""
    (application,) = documents(ARGOCD / "prod.yaml")

    tag = render_overlay("prod").container()["image"].rpartition(":")[2]

    assert application["spec"]["source"]["targetRevision"] == f"v{tag}"


# The image


def test_the_image_fits_the_pod() -> None:
    """The Containerfile's user, port and entrypoint match the pod, and the files it copies exist."""
    base = read_base()
    lines = re.sub(r"\\\n\s*", "", (DEPLOY / "Containerfile").read_text("utf-8")).splitlines()
    instructions = [line.split(None, 1) for line in lines if line and not line.startswith("#")]
    last = dict(instructions)  # the last of a kind counts
    copied = [rest.split()[:-1] for word, rest in instructions if word == "COPY" and not rest.startswith("--from")]
    context = base.pod()["securityContext"]

    assert last["USER"] == f"{context['runAsUser']}:{context['runAsGroup']}"
    listening = {port["containerPort"] for server in SERVERS for port in base.container(server)["ports"]}
    assert {str(port) for port in listening} <= set(last["EXPOSE"].split())
    assert json.loads(last["ENTRYPOINT"]) == ["python", "-m", "graph"]
    assert json.loads(last["CMD"]) == ["worker"]
    assert base.container("eco2-chat-api")["args"][0] == "api"
    assert [name for names in copied for name in names if not (ROOT / name).exists()] == []
    assert re.fullmatch(r"PYTHON=3\.13\.\d+-slim-\w+", last["ARG"])


def test_the_image_has_the_worker_s_extras() -> None:
    """The Containerfile installs the extras that the worker needs."""
    text = (DEPLOY / "Containerfile").read_text("utf-8")
    syncs = [set(re.findall(r"--extra (\w+)", line)) for line in text.splitlines() if "uv sync" in line]

    assert syncs == [{"graph", "otel", "postgres", "serve", "sqlite"}] * 2


def _put(at: Manifest, path: str, value: Any) -> None:
    """Set the value at a dotted path; None deletes it."""
    *steps, last = (int(step) if step.isdecimal() else step for step in path.split("."))
    for step in steps:
        at = at[step]
    if value is None:
        del at[last]
    else:
        at[last] = value


def _promtool(*arguments: str) -> None:
    ran = subprocess.run(
        [program("promtool", package="prometheus"), *arguments], capture_output=True, check=False, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
