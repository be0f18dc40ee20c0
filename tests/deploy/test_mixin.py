"""The mixin: one configuration makes the rules of an application, and a mistake in it is an error that helps."""

from __future__ import annotations

import re
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from eco2_callbacks import ConfigError
from eco2_mixin import MixinConfig, grafana_file, load_config, render_rules
from tests.support.rule_files import DEPLOY, output_of, read

MIXIN = DEPLOY / "mixin"
OWN, SHOP = MIXIN / "chat-worker.toml", MIXIN / "shop.toml"
DEPLOYED = runpy.run_path(str(MIXIN / "build_rules.py"))["OWN"]


def written(config: Path, folder: Path) -> Path:
    """Write an instance's rules into a folder."""
    folder.mkdir()
    for name, text in render_rules(load_config(config)).items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("config", DEPLOYED, ids=lambda path: path.stem)
def test_the_deployed_rules_are_an_instance(config: Path) -> None:
    """The rules of worker and API are what ``deploy/mixin/build_rules.py`` writes."""
    folder, _ = DEPLOYED[config]

    assert render_rules(load_config(config)) == {path.stem: path.read_text("utf-8") for path in folder.glob("*.yaml")}


@pytest.mark.slow
def test_another_instance_works_beside_it(tmp_path: Path) -> None:
    """Promtool's tests pass for another application's rules, with the chat worker's on the same Prometheus."""
    shop = written(SHOP, tmp_path / "shop")
    written(OWN, tmp_path / "other")
    shutil.copyfile(MIXIN / "tests" / "shop.yaml", shop / "tests.yaml")

    output_of("promtool", "check", "rules", "--lint=all", "--lint-fatal", *sorted(shop.glob("[!t]*.yaml")))
    assert "SUCCESS" in output_of("promtool", "test", "rules", shop / "tests.yaml")


def test_an_instance_names_nothing_of_another(tmp_path: Path) -> None:
    """No job, intent, team or address of the chat worker stands in another application's rules."""
    texts = "\n".join(render_rules(load_config(SHOP)).values())

    assert (
        re.findall(r"eco2-chat-worker|waste|general|team: (?:chat|cost)|localhost|eco2\.example|eco2-team", texts) == []
    )
    assert len(re.findall(r"https://wiki\.shop\.example/runbooks/\w+\.md", texts)) > 20


def test_groups_are_chosen() -> None:
    """Only the chosen groups are written, and without an SLO no rule is left over."""
    config = MixinConfig(service="a", selector='job="a"', urls=load_config(SHOP).urls, groups=("cost", "slo"))

    rendered = render_rules(config)

    assert [*rendered] == ["cost", "slo_recording", "slo"]
    assert [yaml.safe_load(rendered[name])["groups"] for name in ("slo_recording", "slo")] == [[], []]


MISTAKES = {
    "unknown_key": ("service =", "servise =", "unknown field `servise`"),
    "unknown_threshold": ("error_share =", "error_shares =", r"error_shares.*thresholds"),
    "text_for_a_number": ("prices_age_days = 30", 'prices_age_days = "30"', r"Expected `float`, got `str`"),
    "localhost": ("https://grafana.shop.example", "http://localhost:3000", "urls.grafana is 'http://localhost:3000'"),
    "no_scheme": ("https://wiki.shop.example", "wiki.shop.example", "urls.runbooks is 'wiki.shop.example/runbooks'"),
    "bad_selector": ('job="shop",', "job=shop,", "selector is 'job=shop,"),
    "empty_selector": ('job="shop",namespace="prod"', " ", "selector is empty"),
    "bad_service": ('"shop-assistant"', '"shop{}"', "service is 'shop{}'"),
    "share_above_one": ("error_share = 0.1", "error_share = 10", "thresholds.error_share is 10.0, wanted a share"),
    "negative": ("cost_jump_factor = 3", "cost_jump_factor = -3", "cost_jump_factor is -3.0, wanted a number above 0"),
    "no_bound": ("agent_p99_seconds = 30", "agent_p99_seconds = 25", "agent_request_duration_seconds: 0.1, 0.5"),
    "slo_without_bound": (
        "seconds = 10",
        "seconds = 11",
        "slo 'refund': seconds is 11.0, wanted a bound",
    ),
    "objective": ("objective = 0.99", "objective = 99", "objective is 99.0, wanted a share between 0 and 1"),
    "events": ('events = "request"', 'events = "question"', "Invalid enum value 'question'"),
    "no_toml": ("[urls]", "[urls", "cannot be used"),
}


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_an_error(tmp_path: Path, old: str, new: str, message: str) -> None:
    """A mistake in the configuration says what came and what was wanted."""
    text = SHOP.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "mistake.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")

    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """A configuration that does not exist is named."""
    with pytest.raises(ConfigError, match=r"none\.toml cannot be used"):
        load_config(tmp_path / "none.toml")


def test_two_slos_need_two_names(tmp_path: Path) -> None:
    """Two SLOs of one name would add up."""
    path = tmp_path / "twice.toml"
    text = SHOP.read_text(encoding="utf-8")
    path.write_text(text + text[text.index("[[slos]]") :], encoding="utf-8")

    with pytest.raises(ConfigError, match="two SLOs are named 'refund'"):
        load_config(path)


# --- the same as Grafana-managed alerts


def grafana_rules(text: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("config", DEPLOYED, ids=lambda path: path.stem)
def test_grafana_gets_the_same_rules(config: Path) -> None:
    """The provisioning file is up to date, and holds each rule with its query, duration and labels."""
    folder, alerting = DEPLOYED[config]
    text = alerting.read_text(encoding="utf-8")
    rules = [rule for path in folder.glob("*.yaml") for group in read(path)["groups"] for rule in group["rules"]]
    alerts = [rule for rule in grafana_rules(text) if "record" not in rule]

    assert text == grafana_file(load_config(config))
    assert sorted(rule["data"][0]["model"]["expr"] for rule in grafana_rules(text)) == sorted(
        rule["expr"].strip() for rule in rules
    )
    assert sorted((rule["labels"]["alertname"], rule["labels"]["severity"], rule["for"]) for rule in alerts) == sorted(
        (rule["alert"], rule["labels"]["severity"], rule["for"]) for rule in rules if "alert" in rule
    )
    assert sorted(rule["record"]["metric"] for rule in grafana_rules(text) if "record" in rule) == sorted(
        rule["record"] for rule in rules if "record" in rule
    )


def test_grafana_can_read_the_rules() -> None:
    """Uids and titles are unique and short enough; each rule's condition and source are among its queries."""
    for config in (OWN, SHOP):
        content = yaml.safe_load(grafana_file(load_config(config)))
        rules = grafana_rules(grafana_file(load_config(config)))
        assert content["apiVersion"] == 1
        assert len({rule["uid"] for rule in rules}) == len(rules)
        assert len({rule["title"] for rule in rules}) == len(rules)
        for rule in rules:
            refs = [query["refId"] for query in rule["data"]]
            assert re.fullmatch(r"[\w-]{1,40}", rule["uid"])
            assert rule["condition"] in refs
            assert all(query["model"]["refId"] == query["refId"] for query in rule["data"])
            assert rule.get("record", {"from": refs[0]})["from"] in refs


def test_grafana_gets_no_template_that_it_lacks() -> None:
    """Grafana's templates know neither queries nor a numeric ``$value``."""
    for rule in grafana_rules(grafana_file(load_config(OWN))):
        for text in rule.get("annotations", {}).values():
            assert "with query" not in text, text
            assert not re.search(r"\$value\b", text), text
            assert text.count("{{") == text.count("}}")


def test_a_threshold_leaves_the_uid() -> None:
    """Another threshold changes the rule in Grafana, and makes no second one."""
    text = SHOP.read_text(encoding="utf-8")
    before = {rule["title"]: rule["uid"] for rule in grafana_rules(grafana_file(load_config(SHOP)))}
    config = load_config(SHOP)
    changed = MixinConfig(
        service=config.service, selector=config.selector, urls=config.urls, groups=config.groups, slos=config.slos
    )

    assert "error_share" in text
    assert {rule["title"]: rule["uid"] for rule in grafana_rules(grafana_file(changed))} == before
