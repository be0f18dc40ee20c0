"""Reads the manifests of deploy/kubernetes from their files or through kustomize, and validates their schemas."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.support.programs import program

__all__ = [
    "ARGOCD",
    "BASE",
    "DEPLOY",
    "OVERLAYS",
    "PLAIN",
    "ROOT",
    "STORE",
    "Deployed",
    "Manifest",
    "documents",
    "read_base",
    "render_overlay",
    "schema_problems",
]

Manifest: TypeAlias = dict[str, Any]

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BASE = DEPLOY / "kubernetes" / "base"
OVERLAYS = ("dev", "prod")
STORE = DEPLOY / "kubernetes" / "cluster" / "secretstore.yaml"
ARGOCD = DEPLOY / "argocd"
# Files that need no kustomize.
PLAIN = (
    *sorted(path for path in (DEPLOY / "kubernetes").rglob("*.yaml") if path.name != "kustomization.yaml"),
    *sorted(ARGOCD.glob("*.yaml")),
)
# A version of 2024, and the newest version with schemas.
CLUSTERS = ("1.32", kubernetes_validate.latest_version())
_CRDS = Path(os.environ.get("ECO2_CRD_SCHEMAS") or ROOT.parent / "shared" / "crd-schemas")


class Deployed:
    """Objects that are applied together."""

    def __init__(self, objects: list[Manifest]) -> None:
        self.objects = objects

    def all(self, kind: str) -> list[Manifest]:
        """Return the objects of a kind."""
        return [item for item in self.objects if item["kind"] == kind]

    def one(self, kind: str, name: str = "eco2-chat-worker") -> Manifest:
        """Return the object of a kind with this name, ignoring the hash suffix of kustomize."""
        (found,) = (
            item for item in self.all(kind) if re.fullmatch(rf"{name}(-[a-z0-9]{{10}})?", item["metadata"]["name"])
        )
        return found

    def pod(self, name: str = "eco2-chat-worker") -> Manifest:
        """Return the pod specification of a server."""
        return self.one("Deployment", name)["spec"]["template"]["spec"]

    def container(self, name: str = "eco2-chat-worker") -> Manifest:
        """Return a server's container."""
        (container,) = self.pod(name)["containers"]
        return container

    def environment(self, name: str = "eco2-chat-worker") -> dict[str, str]:
        """Return a server's variables. A value from a secret is ``<name of the secret>/<key>``."""
        named = {item["metadata"]["name"]: item["data"] for item in self.all("ConfigMap")}
        values: dict[str, str] = {}
        for source in self.container(name)["envFrom"]:
            values |= named[source["configMapRef"]["name"]]
        for variable in self.container(name)["env"]:
            reference = variable["valueFrom"]["secretKeyRef"]
            values[variable["name"]] = f"{reference['name']}/{reference['key']}"
        return values


def documents(path: Path) -> list[Manifest]:
    """Return the objects of a file."""
    return list(yaml.safe_load_all(path.read_text("utf-8")))


def read_base() -> Deployed:
    """Return the base's objects without kustomize and without the dashboards."""
    kustomization = yaml.safe_load((BASE / "kustomization.yaml").read_text("utf-8"))
    files = [BASE / name for name in kustomization["resources"] if name.endswith(".yaml")]
    generated = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": made["name"]},
            "data": dict(literal.split("=", 1) for literal in made["literals"]),
        }
        for made in kustomization["configMapGenerator"]
    ]
    return Deployed([*(item for path in files for item in documents(path)), *generated])


def render_overlay(name: str) -> Deployed:
    """Return the objects of a rendered overlay. Skip the test if kubectl's kustomize is too old."""
    return Deployed(list(yaml.safe_load_all(_kustomize(name))))


@cache
def _kustomize(overlay: str) -> str:
    kubectl = program("kubectl", package="kubernetes-client")
    done = subprocess.run([kubectl, "version", "--client", "-o", "json"], capture_output=True, check=True, text=True)
    # kubectl before 1.24 does not report the version. Its kustomize is 4.5 at most; in 1.20 it is 2.0.
    version = json.loads(done.stdout).get("kustomizeVersion", "v0")
    if int(version.removeprefix("v").split(".")[0]) < 5:
        pytest.skip(f"the overlays need kustomize 5; {kubectl} of kubernetes-client has an older one")
    path = DEPLOY / "kubernetes" / "overlays" / overlay
    rendered = subprocess.run([kubectl, "kustomize", str(path)], capture_output=True, check=False, text=True)
    assert (rendered.returncode, rendered.stderr) == (0, ""), rendered.stderr
    return rendered.stdout


def schema_problems(manifest: Manifest) -> Iterator[str]:
    """Yield what an API server would reject in an object, including unknown fields. CEL rules are not evaluated.

    Custom kinds use the schemas in the directory ``ECO2_CRD_SCHEMAS``. Without that directory the test is skipped.
    """
    group, _, version = manifest["apiVersion"].rpartition("/")
    kind = manifest["kind"]
    if not group.count(".") or group.endswith(".k8s.io"):
        yield from _core_problems(manifest)
        return
    if not _CRDS.is_dir():
        pytest.skip(f"no schemas of custom kinds in {_CRDS}; set ECO2_CRD_SCHEMAS to their directory")
    path = _CRDS / group / f"{kind.lower()}_{version}.json"
    if not path.is_file():
        yield f"{kind}: no schema in {path}"
        return
    for error in jsonschema.Draft202012Validator(_strict(path)).iter_errors(manifest):
        yield f"{kind}: {error.json_path}: {error.message}"
    # The catalogue accepts any metadata, so validate it as the metadata of a core kind, which has the same fields.
    carrier = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": manifest.get("metadata", {})}
    yield from (f"{kind}: {problem}" for problem in _core_problems(carrier))
    if "name" not in carrier["metadata"]:
        yield f"{kind}: it has no name"


def _core_problems(manifest: Manifest) -> Iterator[str]:
    for version in CLUSTERS:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{manifest['kind']}: {error.json_path}: {error.message} ({version})"
        except kubernetes_validate.SchemaNotFoundError as error:  # the command line tool only warns and exits with 0
            yield error.message


@cache
def _strict(path: Path) -> Manifest:
    """Return a schema that rejects unknown fields at the root too. The catalogue's schemas do so only below it."""
    schema = json.loads(path.read_text("utf-8"))
    schema["properties"] |= {name: {"type": "string"} for name in ("apiVersion", "kind")} | {"metadata": {}}
    schema["required"] = sorted({*schema.get("required", ()), "apiVersion", "kind", "metadata", "spec"})
    return schema | {"additionalProperties": False}
