"""The manifests of deploy/kubernetes: read from their files, or rendered by kustomize, and held to their schemas."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import jsonschema
import kubernetes_validate
import pytest
import yaml

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
    "of_base",
    "of_overlay",
    "program",
    "schema_problems",
]

Manifest: TypeAlias = dict[str, Any]

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BASE = DEPLOY / "kubernetes" / "base"
OVERLAYS = ("dev", "prod")
STORE = DEPLOY / "kubernetes" / "cluster" / "secretstore.yaml"
ARGOCD = DEPLOY / "argocd"
# What can be read without kustomize.
PLAIN = (
    *sorted(path for path in (DEPLOY / "kubernetes").rglob("*.yaml") if path.name != "kustomization.yaml"),
    *sorted(ARGOCD.glob("*.yaml")),
)
# Of 2024, and the newest that the schemas know.
CLUSTERS = ("1.32", kubernetes_validate.latest_version())
_CRDS = Path(os.environ.get("ECO2_CRD_SCHEMAS") or ROOT.parent / "shared" / "crd-schemas")


class Deployed:
    """The objects that are applied together."""

    def __init__(self, objects: list[Manifest]) -> None:
        self.objects = objects

    def all(self, kind: str) -> list[Manifest]:
        """Return the objects of a kind."""
        return [item for item in self.objects if item["kind"] == kind]

    def one(self, kind: str, name: str = "eco2-chat-worker") -> Manifest:
        """Return the object of a kind whose name is this one, but for the hash that kustomize adds."""
        (found,) = (
            item for item in self.all(kind) if re.fullmatch(rf"{name}(-[a-z0-9]{{10}})?", item["metadata"]["name"])
        )
        return found

    def pod(self) -> Manifest:
        """Return the pods' specification."""
        return self.one("Deployment")["spec"]["template"]["spec"]

    def container(self) -> Manifest:
        """Return the worker's container."""
        (container,) = self.pod()["containers"]
        return container

    def environment(self) -> dict[str, str]:
        """Return the worker's variables; one out of a secret is ``<name of the secret>/<key>``."""
        named = {item["metadata"]["name"]: item["data"] for item in self.all("ConfigMap")}
        values: dict[str, str] = {}
        for source in self.container()["envFrom"]:
            values |= named[source["configMapRef"]["name"]]
        for variable in self.container()["env"]:
            reference = variable["valueFrom"]["secretKeyRef"]
            values[variable["name"]] = f"{reference['name']}/{reference['key']}"
        return values


def documents(path: Path) -> list[Manifest]:
    """Return the objects of a file."""
    return list(yaml.safe_load_all(path.read_text("utf-8")))


def of_base() -> Deployed:
    """Return the base's objects without kustomize, but for the dashboards."""
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


def of_overlay(name: str) -> Deployed:
    """Return what kustomize makes of an overlay; skip the test where kubectl's own is too old."""
    return Deployed(list(yaml.safe_load_all(_rendered(name))))


def program(name: str) -> str:
    """Return where a program stands; skip the test, or fail it on CI, where it does not."""
    if (found := shutil.which(name)) is None:
        reason = f"{name} is not installed"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return found


@cache
def _rendered(overlay: str) -> str:
    kubectl = program("kubectl")
    told = subprocess.run([kubectl, "version", "--client", "-o", "json"], capture_output=True, check=True, text=True)
    # Before 1.24 kubectl does not tell: its kustomize is 4.5 at most, that of 1.20 is 2.0.
    version = json.loads(told.stdout).get("kustomizeVersion", "v0")
    if int(version.removeprefix("v").split(".")[0]) < 5:
        pytest.skip(f"the overlays need kustomize 5, and that of {kubectl} is older")
    path = DEPLOY / "kubernetes" / "overlays" / overlay
    made = subprocess.run([kubectl, "kustomize", str(path)], capture_output=True, check=False, text=True)
    assert (made.returncode, made.stderr) == (0, ""), made.stderr
    return made.stdout


def schema_problems(manifest: Manifest) -> Iterator[str]:
    """Yield what an API server would refuse in an object, unknown fields included; rules written in CEL aside.

    A custom kind is held to its schema in ``ECO2_CRD_SCHEMAS``; where those are absent, the test skips.
    """
    group, _, version = manifest["apiVersion"].rpartition("/")
    kind = manifest["kind"]
    if not group.count(".") or group.endswith(".k8s.io"):
        yield from _core_problems(manifest)
        return
    if not _CRDS.is_dir():
        pytest.skip(f"no schemas of custom kinds in {_CRDS}; ECO2_CRD_SCHEMAS names their directory")
    path = _CRDS / group / f"{kind.lower()}_{version}.json"
    if not path.is_file():
        yield f"{kind}: no schema in {path}"
        return
    for error in jsonschema.Draft202012Validator(_strict(path)).iter_errors(manifest):
        yield f"{kind}: {error.json_path}: {error.message}"
    # The catalogue takes any metadata; that of a core kind has the same fields.
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
        except kubernetes_validate.SchemaNotFoundError as error:  # the command line only warns of it, and exits with 0
            yield error.message


@cache
def _strict(path: Path) -> Manifest:
    """Return a schema that refuses unknown fields at the root too; the catalogue's own do so everywhere below."""
    schema = json.loads(path.read_text("utf-8"))
    schema["properties"] |= {name: {"type": "string"} for name in ("apiVersion", "kind")} | {"metadata": {}}
    schema["required"] = sorted({*schema.get("required", ()), "apiVersion", "kind", "metadata", "spec"})
    return schema | {"additionalProperties": False}
