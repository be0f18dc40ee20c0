"""Bad input: each error says what came and what to do."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from eco2_callbacks import ConfigError, LedgerError, LedgerSink
from eco2_callbacks.ledger import Period, Schema, backend_of, make_report
from tests.support.ledger_records import call
from tests.support.programs import free_port


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://host/db", "begins with 'mysql', wanted a path, 'sqlite:///eco2.db'"),
        ("", "The ledger is '', wanted a path"),
        ("postgres:db", "The ledger is 'postgres:db', wanted a path"),
        ("sqlite://", "keeps nothing; name a file"),
        ("sqlite:///:memory:", "keeps nothing; name a file"),
        ("clickhouse://host/db?engine=Log", "engine= is 'Log', wanted one of ReplacingMergeTree"),
        (7, "The ledger is 7, wanted a path"),
    ],
    ids=["scheme", "empty", "no slashes", "no file", "memory", "engine", "number"],
)
def test_an_unknown_url_is_refused(url: Any, message: str) -> None:
    """A URL that names no ledger raises, and the message lists what does."""
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        backend_of(url)


@pytest.mark.parametrize("scheme", ["postgresql", "clickhouse"])
def test_an_unreachable_server_is_an_error_at_the_start(scheme: str) -> None:
    """The message names the server without its password, and the way to begin without it."""
    with pytest.raises(LedgerError, match="cannot be reached") as caught:
        LedgerSink(f"{scheme}://user:hunter2@127.0.0.1:{free_port()}/db")

    assert "hunter2" not in str(caught.value)
    assert "needs_backend=False" in str(caught.value)


def test_a_schema_newer_than_the_package_is_refused(ledger_url: str) -> None:
    """A ledger that a later version has migrated is neither written nor read."""
    backend = backend_of(ledger_url)
    Schema(backend).open()
    newest = Schema(backend).newest()
    with backend.engine().begin() as connection:
        connection.execute(sa.text("INSERT INTO schema_version (version_num) VALUES ('9999')"))
        connection.execute(sa.text(f"DELETE FROM schema_version WHERE version_num = '{newest}'"))

    for use in (lambda: LedgerSink(ledger_url), lambda: make_report(backend, ["day"], Period.parse(None, None, "UTC"))):
        with pytest.raises(
            LedgerError, match=rf"schema '9999', this package knows none after '{newest}'; upgrade eco2"
        ):
            use()
    backend.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    """A folder that cannot be written raises at the start."""
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(LedgerError, match="cannot be written"):
            LedgerSink(tmp_path / "ledger.db")
    finally:
        tmp_path.chmod(stat.S_IRWXU)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """A ledger below a file raises at the start, for every user."""
    (tmp_path / "file").write_text("")

    with pytest.raises(LedgerError, match=r"cannot be written.*Name a file in a folder that this user may write to"):
        LedgerSink(tmp_path / "file" / "ledger.db")
    with pytest.raises(LedgerError, match="cannot be written"):
        LedgerSink("/proc/eco2/ledger.db")


def test_an_empty_period_says_what_the_ledger_has(tmp_path: Path) -> None:
    """A report on a period without calls names the period that has some."""
    path = tmp_path / "ledger.db"
    with LedgerSink(path) as sink:
        sink.emit(call())
    backend = backend_of(path)

    with pytest.raises(LedgerError, match=r"no calls from 2020-01-01.*it has 1 from 2026-11-02T09:30:00"):
        make_report(backend, ["day"], Period.parse("2020-01-01", "2020-01-31", "UTC"))
    with pytest.raises(ConfigError, match=r"The period is empty: it begins at .* give a --since before --until"):
        Period.parse("2026-11-02", "2026-10-02", "UTC")
    with pytest.raises(LedgerError, match=r"There is no ledger at .*none\.db"):
        make_report(backend_of(tmp_path / "none.db"), ["day"], Period.parse(None, None, "UTC"))
    assert not (tmp_path / "none.db").exists()
    backend.close()


@pytest.mark.parametrize(
    ("since", "zone", "message"),
    [
        ("someday", "UTC", "--since is 'someday', wanted a day"),
        (None, "Mars/Olympus", "The time zone is 'Mars/Olympus', wanted a name of the IANA database"),
        ("9999999999d", "UTC", "--since is '9999999999d'"),
        ("999999d", "UTC", r"--since is '999999d', wanted a day .*, from 1900 to 2261"),
        ("1000-01-01", "UTC", "--since is '1000-01-01', wanted a day"),
        ("0001-01-01", "Asia/Seoul", "--since is '0001-01-01', wanted a day"),
        ("9999-12-31T23:59-10:00", "UTC", "--since is '9999-12-31T23:59-10:00', wanted a day"),
    ],
    ids=["word", "zone", "duration", "long ago", "before rows", "first day", "last hour"],
)
def test_an_unknown_time_is_refused(since: str | None, zone: str, message: str) -> None:
    """A time or zone that does not exist raises, and the message shows the forms."""
    with pytest.raises(ConfigError, match=message):
        Period.parse(since, None, zone)


def test_a_report_can_begin_with_the_first_day_of_all(ledger_url: str) -> None:
    """Every backend takes the first day that a row can have, and what comes before it."""
    with LedgerSink(ledger_url) as sink:
        sink.emit(call())
        sink.flush(60)
    backend = backend_of(ledger_url)

    report = make_report(backend, ["model"], Period.parse("1900-01-01", "2261-12-31", "UTC"))

    assert report.total.calls == 1
    backend.close()


@pytest.mark.parametrize("by", [["nope"], ["day", "week"], ["tenant", "tenant"]], ids=["unknown", "two dates", "twice"])
def test_an_impossible_grouping_is_refused(by: list[str], tmp_path: Path) -> None:
    """A dimension that does not exist, or cannot stand beside another, raises."""
    with pytest.raises(ConfigError, match="--by is"):
        make_report(backend_of(tmp_path / "ledger.db"), by, Period.parse(None, None, "UTC"))


@pytest.mark.parametrize("name", ["max_waiting", "max_spool_bytes"])
def test_a_bound_below_one_is_refused(name: str, tmp_path: Path) -> None:
    """A bound is a number above 0."""
    bounds: dict[str, Any] = {name: 0}
    with pytest.raises(ConfigError, match=f"{name}= is 0, wanted a number above 0"):
        LedgerSink(tmp_path / "ledger.db", **bounds)


def test_a_record_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    """A record of the application with a false cost raises at ``emit``."""
    with (
        LedgerSink(tmp_path / "ledger.db") as sink,
        pytest.raises(ConfigError, match="cannot be written to the ledger"),
    ):
        sink.emit("no record")  # type: ignore[arg-type]
