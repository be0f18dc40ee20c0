"""deploy/README.md: its tables, links and commands agree with the manifests."""

from __future__ import annotations

import re

from tests.support.cross_checks import SERVERS
from tests.support.manifests import BASE, DEPLOY, OVERLAYS, render_overlay


def test_the_readme_lists_the_variables() -> None:
    """The table in deploy/README.md lists exactly the variables of the deployment."""
    text = (DEPLOY / "README.md").read_text("utf-8")
    (table,) = re.findall(r"^\| variable \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    listed = [name for row in table.splitlines() for name in re.findall(r"`([A-Z0-9_]+)`", row.split("|")[1])]

    overlays = [render_overlay(overlay) for overlay in OVERLAYS]
    rendered = {name for overlay in overlays for server in SERVERS for name in overlay.environment(server)}

    assert sorted(listed) == sorted(rendered)


def test_the_readme_stores_every_parameter() -> None:
    """The checklist stores exactly the parameters that the ExternalSecrets read: one less, and no pod starts."""
    text = (DEPLOY / "README.md").read_text("utf-8")
    ((names, path),) = re.findall(r"for name in ([\w -]+); do\n.*--name \"(\S+)\"", text)
    stored = {path.replace("$name", name) for name in names.split()}
    stored |= set(re.findall(r"aws ssm put-parameter --type SecureString --name (/\S+)", text))

    read = {
        data["remoteRef"]["key"]
        for overlay in OVERLAYS
        for item in render_overlay(overlay).all("ExternalSecret")
        for data in item["spec"]["data"]
    }

    assert stored == read


def test_the_readme_names_every_file_with_the_image() -> None:
    """Who replaces the image's name finds all of its places."""
    text = (DEPLOY / "README.md").read_text("utf-8")
    image = "ghcr.io/eco2-team/eco2-chat-worker"

    (places,) = re.findall(rf"the image `{image}` \(in (.*)\)", text)

    assert set(re.findall(r"`(base/[\w.]+)`", places)) == {
        f"base/{path.name}" for path in BASE.glob("*.yaml") if image in path.read_text("utf-8")
    }


def test_the_readme_s_links_exist() -> None:
    """Every relative link in deploy/README.md points to an existing file or directory."""
    text = (DEPLOY / "README.md").read_text("utf-8")

    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]

    assert links
    assert [link for link in links if not (DEPLOY / link).exists()] == []
