"""Checks that the manifests agree with each other and with the program. Each check yields the contradictions."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import promql_parser
from google import genai

from eco2_callbacks import Settings
from eco2_callbacks.langsmith.environment import HOSTED
from graph.jobs import QUEUE
from tests.support.manifests import ROOT, STORE, Deployed, documents

__all__ = ["CHECKS", "JOB", "known_variables"]

JOB = "eco2-chat-worker"
SERVERS = (JOB, "eco2-chat-api")
# Time for the handler's close and LangSmith's queue, after the answers in progress.
_FLUSH_SECONDS = 30
_PAIRS = {
    "LANGCHAIN_TRACING_V2": "LANGSMITH_TRACING",
    "LANGCHAIN_API_KEY": "LANGSMITH_API_KEY",
    "LANGCHAIN_PROJECT": "LANGSMITH_PROJECT",
    "LANGCHAIN_ENDPOINT": "LANGSMITH_ENDPOINT",
}


def selectors(deployed: Deployed) -> Iterator[str]:
    """Selectors of each server match its labels."""
    for name in SERVERS:
        deployment = deployed.one("Deployment", name)["spec"]
        pod = deployment["template"]["metadata"]["labels"]
        selected = {
            "Deployment": (deployment["selector"]["matchLabels"], pod),
            "Service": (deployed.one("Service", name)["spec"]["selector"], pod),
            "NetworkPolicy": (deployed.one("NetworkPolicy", name)["spec"]["podSelector"]["matchLabels"], pod),
            "ServiceMonitor": (
                deployed.one("ServiceMonitor", name)["spec"]["selector"]["matchLabels"],
                deployed.one("Service", name)["metadata"]["labels"],
            ),
        }
        for number, spread in enumerate(deployed.pod(name)["topologySpreadConstraints"]):
            selected[f"topologySpreadConstraints[{number}]"] = (spread["labelSelector"]["matchLabels"], pod)
        for budget in deployed.all("PodDisruptionBudget"):
            if budget["metadata"]["name"] == name:
                selected["PodDisruptionBudget"] = (budget["spec"]["selector"]["matchLabels"], pod)
        for what, (wanted, labels) in selected.items():
            if not wanted or not wanted.items() <= labels.items():
                yield f"{name}: {what} selects {wanted}, the labels are {labels}"


def ports(deployed: Deployed) -> Iterator[str]:
    """Each port of a server has one number and one name everywhere."""
    for server in SERVERS:
        named = {port["name"]: port["containerPort"] for port in deployed.container(server)["ports"]}
        services = {port["name"]: port for port in deployed.one("Service", server)["spec"]["ports"]}
        ingress = deployed.one("NetworkPolicy", server)["spec"]["ingress"]
        (endpoint,) = deployed.one("ServiceMonitor", server)["spec"]["endpoints"]
        annotations = deployed.one("Deployment", server)["spec"]["template"]["metadata"]["annotations"]
        number, name = named["http-metrics"], "http-metrics"
        arguments = deployed.container(server).get("args", [])
        given = arguments[arguments.index("--port") + 1 :] if "--port" in arguments else []
        found = {
            "ECO2_METRICS_PORT": (deployed.environment(server).get("ECO2_METRICS_PORT"), str(number)),
            "Service": (
                {(port["port"], port["targetPort"]) for port in services.values()},
                {(number, name) for name, number in named.items()},
            ),
            "ServiceMonitor": (endpoint["port"], name),
            "NetworkPolicy": (
                sorted(port["port"] for rule in ingress for port in rule["ports"]),
                sorted(named.values()),
            ),
            "excludeInboundPorts": (annotations["traffic.sidecar.istio.io/excludeInboundPorts"], str(number)),
            "--port": (given, [str(named["http-api"])] if "http-api" in named else []),
        }
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            found[probe] = (deployed.container(server)[probe]["httpGet"]["port"], name)
        for what, (is_, wanted) in found.items():
            if is_ != wanted:
                yield f"{server}: {what} is {is_!r}, wanted {wanted!r}"


def probes(deployed: Deployed) -> Iterator[str]:
    """A server without Redis or RabbitMQ is not ready, but is not restarted."""
    wanted = {"startupProbe": "/healthz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}
    for name in SERVERS:
        for probe, path in wanted.items():
            if (is_ := deployed.container(name)[probe]["httpGet"]["path"]) != path:
                yield f"{name}: {probe} requests {is_!r}, wanted {path!r}"


def variables(deployed: Deployed) -> Iterator[str]:
    """The program reads every variable."""
    names = {name for server in SERVERS for name in deployed.environment(server)}
    for name in sorted(names - known_variables()):
        yield f"nothing reads {name}"


def both_names(deployed: Deployed) -> Iterator[str]:
    """LangSmith's settings are set under their old and new names, with the same value."""
    environment = deployed.environment()
    for old, new in _PAIRS.items():
        values = environment.get(old), environment.get(new)
        if None in values and not (old.endswith("PROJECT") and values == (None, None)):  # the overlays set it
            yield f"{old} and {new} are {values}, wanted both"
        elif values[0] != values[1]:
            yield f"{old} and {new} differ: {values}"


def secrets(deployed: Deployed) -> Iterator[str]:
    """An ExternalSecret fills every key that is read from a secret, and no other key."""
    filled = {
        (item["spec"]["target"]["name"], data["secretKey"])
        for item in deployed.all("ExternalSecret")
        for data in item["spec"]["data"]
    }
    references = [item["valueFrom"]["secretKeyRef"] for server in SERVERS for item in deployed.container(server)["env"]]
    wanted = {(reference["name"], reference["key"]) for reference in references}
    yield from (f"no ExternalSecret fills {secret}/{key}" for secret, key in sorted(wanted - filled))
    yield from (f"nothing reads {secret}/{key}" for secret, key in sorted(filled - wanted))
    (store,) = documents(STORE)
    for item in deployed.all("ExternalSecret"):
        reference = item["spec"]["secretStoreRef"]
        if reference != {"kind": store["kind"], "name": store["metadata"]["name"]}:
            yield f"{item['metadata']['name']} names the store {reference}"
        for data in item["spec"]["data"]:
            if not data["remoteRef"]["key"].startswith("/eco2/"):
                yield f"{data['remoteRef']['key']} is not below /eco2/, the only path that the store's role may read"


def hosts(deployed: Deployed) -> Iterator[str]:
    """The mesh allows the hosts of the worker's clients and providers, and no others."""
    entered = [(host, item["spec"]) for item in deployed.all("ServiceEntry") for host in item["spec"]["hosts"]]
    listed = {host for host, _ in entered}
    yield from (f"no ServiceEntry for {host}" for host in sorted(_hosts() - listed))
    yield from (f"nothing calls {host}" for host in sorted(listed - _hosts()))
    for host, spec in entered:
        if [(port["number"], port["protocol"]) for port in spec["ports"]] != [(443, "TLS")]:
            yield f"{host} is not declared as TLS on 443"


def scaling(deployed: Deployed) -> Iterator[str]:
    """The autoscaler uses a query with exactly one result. Only the autoscaler sets the worker's replicas."""
    spec = deployed.one("ScaledObject")["spec"]
    deployment = deployed.one("Deployment")
    target = {"apiVersion": "apps/v1", "kind": "Deployment"} | spec["scaleTargetRef"]
    if target != {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment["metadata"]["name"]}:
        yield f"the ScaledObject scales {target}"
    if "replicas" in deployment["spec"]:
        yield "the Deployment sets replicas, which the autoscaler must set"
    by_type = {trigger["type"]: trigger for trigger in spec["triggers"]}
    if by_type.keys() != {"prometheus", "rabbitmq"}:
        yield f"the triggers are {sorted(by_type)}, wanted busy slots and the queue's length"
        return
    trigger, queue = by_type["prometheus"], by_type["rabbitmq"]
    if trigger["metadata"].get("ignoreNullValues") != "false":
        yield "without a result the scaler takes 0"
    if any(one.get("metricType", "AverageValue") != "AverageValue" for one in spec["triggers"]):
        yield "the fallback works for AverageValue only"
    replicas = spec["fallback"]["replicas"]
    if not spec["minReplicaCount"] <= replicas <= spec["maxReplicaCount"]:
        yield f"the fallback's {replicas} replicas are not between minReplicaCount and maxReplicaCount"
    query = promql_parser.parse(trigger["metadata"]["query"])
    if not isinstance(query, promql_parser.AggregateExpr) or (query.modifier and query.modifier.labels):
        yield f"the query may have several results, or none: {trigger['metadata']['query']}"
    environment = deployed.environment()
    if not 0 < float(trigger["metadata"]["threshold"]) < float(environment["ECO2_WORKER_CONCURRENCY"]):
        yield f"{trigger['metadata']['threshold']} busy slots are never reached"
    if queue["metadata"]["queueName"] != QUEUE or queue["metadata"]["hostFromEnv"] not in environment:
        yield f"nothing is in the queue of {queue['metadata']}"


def grace(deployed: Deployed) -> Iterator[str]:
    """The pod's grace period covers the answers in progress and the flush after them."""
    for name in SERVERS:
        given = deployed.pod(name)["terminationGracePeriodSeconds"]
        wanted = float(deployed.environment(name)["ECO2_GRACE_SECONDS"]) + _FLUSH_SECONDS
        if given < wanted:
            yield f"{name}: terminationGracePeriodSeconds is {given}, wanted at least {wanted}"


def egress(deployed: Deployed) -> Iterator[str]:
    """The NetworkPolicy allows the addresses in the worker's environment."""
    for server in SERVERS:
        environment = deployed.environment(server)
        rules = deployed.one("NetworkPolicy", server)["spec"]["egress"]
        open_ports = {(port["protocol"], port["port"]) for rule in rules for port in rule["ports"]}
        wanted = {("UDP", 53), ("TCP", 53), ("TCP", 443), ("TCP", urlsplit(environment["ECO2_REDIS_URL"]).port or 0)}
        if "ECO2_AMQP_URL" in environment:  # its value is a secret, with or without TLS
            wanted |= {("TCP", 5671), ("TCP", 5672)}
        if server == JOB:
            wanted.add(("TCP", urlsplit(environment["OTEL_EXPORTER_OTLP_ENDPOINT"]).port or 0))
            wanted.add(("TCP", int(environment["ECO2_CHARACTER_ADDRESS"].rpartition(":")[2])))
        if environment.get("ECO2_CHECKPOINTS", "memory") != "memory" or environment.get("ECO2_LEDGER"):
            wanted.add(("TCP", 5432))
        for protocol, port in sorted(wanted - open_ports):
            yield f"{server}: no egress to {protocol} {port}"
        if any("to" not in rule for rule in rules):
            yield f"{server}: an egress rule allows every address"


def ledger(deployed: Deployed) -> Iterator[str]:
    """API and worker have one ledger; its address holds a password, so a secret keeps it."""
    for server in SERVERS:
        if deployed.environment(server).get("ECO2_LEDGER") != "eco2-chat-worker-ledger/postgres-url":
            yield f"{server}: its ledger is not the one of the secret"


def security(deployed: Deployed) -> Iterator[str]:
    """Each pod meets the Pod Security Standard "restricted", and writes only to /tmp and the ledger's spool."""
    for server in SERVERS:
        pod, container = deployed.pod(server), deployed.container(server)
        context = pod.get("securityContext", {}) | container.get("securityContext", {})
        wanted = {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        yield from (f"{name} is {context.get(name)!r}" for name, value in wanted.items() if context.get(name) != value)
        if not context.get("runAsUser"):
            yield "runAsUser is root"
        yield from (f"{name} is set" for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name))
        writable = ["/tmp", deployed.environment(server).get("ECO2_LEDGER_SPOOL")]
        if {volume["name"]: next(iter(volume.keys() - {"name"})) for volume in pod["volumes"]} != {
            "tmp": "emptyDir",
            "spool": "emptyDir",
        } or [mount["mountPath"] for mount in container["volumeMounts"]] != writable:
            yield f"wanted two emptyDirs, on {writable}"
        tokens = (
            pod.get("automountServiceAccountToken"),
            deployed.one("ServiceAccount").get("automountServiceAccountToken"),
        )
        if tokens != (False, False) or pod["serviceAccountName"] != deployed.one("ServiceAccount")["metadata"]["name"]:
            yield "the pod mounts a service account token, or uses another service account"
        if not container["resources"].get("limits", {}).get("memory") or container["resources"]["requests"].keys() != {
            "cpu",
            "memory",
        }:
            yield "wanted requests for cpu and memory, and a limit for memory"


def job_label(deployed: Deployed) -> Iterator[str]:
    """Rules and autoscaler select the job label that scraping sets, and a server that is gone pages."""
    triggers = deployed.one("ScaledObject")["spec"]["triggers"]
    for server in SERVERS:
        label = deployed.one("ServiceMonitor", server)["spec"]["jobLabel"]
        job = deployed.one("Service", server)["metadata"]["labels"].get(label)
        if job != server:
            yield f"the label job is {job!r}, wanted {server!r}"
        groups = deployed.one("PrometheusRule", server)["spec"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        if not any(rule.get("alert") == "WorkerGone" and rule["labels"]["severity"] == "page" for rule in rules):
            yield f"nobody is paged when {server} is gone"
        queries = [rule["expr"] for rule in rules]
        if server == JOB:
            queries += [trigger["metadata"]["query"] for trigger in triggers if trigger["type"] == "prometheus"]
        for query in queries:
            promql_parser.parse(query)
            for name in re.findall(r'\bjob\s*=~?\s*"([^"]*)"', query):
                if not re.fullmatch(name, job or ""):
                    yield f"a query selects the job {name!r}: {query}"


def namespaces(deployed: Deployed) -> Iterator[str]:
    """All objects are in one namespace, and the autoscaler's query selects it."""
    (namespace,) = (item["metadata"]["name"] for item in deployed.all("Namespace"))
    for item in deployed.objects:
        is_ = item["metadata"].get("namespace")
        if item["kind"] != "Namespace" and is_ not in {None, namespace}:
            yield f"{item['kind']} {item['metadata']['name']} is in {is_!r}"
    without = {item["metadata"].get("namespace") is None for item in deployed.objects if item["kind"] != "Namespace"}
    if len(without) > 1:
        yield "some objects have a namespace, some none"
    query = deployed.one("ScaledObject")["spec"]["triggers"][0]["metadata"]["query"]
    if f'namespace="{namespace}"' not in query:
        yield f"the autoscaler selects another namespace: {query}"


def image(deployed: Deployed) -> Iterator[str]:
    """An image with a version tag is pulled once; one with a moving tag is pulled each time."""
    for server in SERVERS:
        container = deployed.container(server)
        _, _, tag = container["image"].rpartition("/")[2].partition(":")
        if not tag:  # the overlays set it
            continue
        moves = re.fullmatch(r"\d+\.\d+\.\d+", tag) is None
        if tag == "latest" or moves != (container.get("imagePullPolicy") == "Always"):
            yield f"{container['image']} is pulled {container.get('imagePullPolicy', 'if not present')}"


CHECKS: Mapping[str, Callable[[Deployed], Iterator[str]]] = {
    check.__name__: check
    for check in (
        *(selectors, ports, probes, variables, both_names, secrets, hosts, scaling, grace, egress, ledger, security),
        *(job_label, namespaces, image),
    )
}


@cache
def known_variables() -> frozenset[str]:
    """Return the names of the variables that the program or its SDKs read."""
    sources = (*(ROOT / "graph").rglob("*.py"), *(ROOT / "eco2_callbacks").rglob("*.py"))
    literals = {name for path in sources for name in _literals(path, r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")}
    environment = _RecordingEnvironment({"LANGSMITH_TRACING": "true"})
    Settings.from_env(environment)
    return frozenset(literals | environment.names_read)


def _literals(path: Path, pattern: str) -> Iterator[str]:
    """Yield the string literals of a Python file that match the pattern completely."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(pattern, node.value):
            yield node.value


class _RecordingEnvironment(dict[str, str]):
    """An environment that records which variables are read."""

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__(values)
        self.names_read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.names_read.add(key)
        return super().get(key, default)


@cache
def _hosts() -> frozenset[str]:
    """Return the default hosts of the services' clients, the providers' SDKs and LangSmith's SDK."""
    clients = (ROOT / "graph" / "clients").glob("*.py")
    urls = [
        *(url for path in clients for url in _literals(path, r"https://[\w.-]+")),
        str(openai.OpenAI(api_key="unused").base_url),
        str(genai.Client(api_key="unused")._api_client._http_options.base_url),
        HOSTED,
    ]
    return frozenset(urlsplit(url).hostname or url for url in urls)
