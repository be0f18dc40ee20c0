"""docs/budgets.md: its code runs as it stands, and its files are read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from eco2_callbacks import Budgets, Eco2CallbackHandler
from eco2_callbacks.budgets.rules import SELECTORS
from eco2_callbacks.budgets.settings import Budgets as Settings
from tests.support.fake_model import FakeModel

PAGE = (Path(__file__).parents[2] / "docs" / "budgets.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_page_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block runs with the names of the blocks before it."""
    (tmp_path / "budgets.toml").write_text(blocks("toml")[0].replace("store =", "# store ="))
    monkeypatch.chdir(tmp_path)
    registries: list[CollectorRegistry] = []

    def handler(**options: object) -> Eco2CallbackHandler:
        registries.append(CollectorRegistry())
        return Eco2CallbackHandler(registry=registries[-1], **options)  # type: ignore[arg-type]

    names: dict[str, object] = {"expensive": FakeModel(), "cheap": FakeModel()}
    for block in blocks("python"):
        code = block.replace("Eco2CallbackHandler(", "make_handler(").replace("import make_handler", "import")
        names["make_handler"] = handler
        exec(compile(code, "docs/budgets.md", "exec"), names)

    report = names["research"]({"draft": "a draft"}, {})  # type: ignore[operator]
    assert report is None
    assert len(registries) == 3


@pytest.mark.parametrize("text", blocks("toml"), ids=["tenant", "team"])
def test_every_file_of_the_page_is_read(text: str, tmp_path: Path) -> None:
    """The recipes are files as they stand."""
    path = tmp_path / "budgets.toml"
    path.write_text(text)

    assert Budgets.from_toml(path).rules


def test_the_page_names_every_setting_and_selector() -> None:
    """What can be set is documented."""
    names = [*Settings.__dataclass_fields__, *SELECTORS]

    assert [name for name in names if name != "rules" and f"`{name}`" not in PAGE and name != "webhook"] == []
