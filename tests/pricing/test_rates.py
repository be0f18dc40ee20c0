"""Custom rates from a TOML file: read whole, or refused with the entry and the reason."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from genai_prices.types import Tier, TieredPrices

from eco2_callbacks import ConfigError, Rate
from eco2_callbacks.pricing.rates import PRICE_KEYS, read_rates

KEYS = (
    "['attachment_searches_kcount', 'cache_audio_read_mtok', 'cache_read_mtok', 'cache_write_1h_mtok', "
    "'cache_write_5m_mtok', 'cache_write_mtok', 'code_executions_kcount', 'code_interpreter_each', 'image_each', "
    "'input_audio_mtok', 'input_mtok', 'maps_grounding_each', 'output_audio_mtok', 'output_citation_mtok', "
    "'output_image_mtok', 'output_mtok', 'output_reasoning_mtok', 'requests_kcount', 'storage_searches_kcount', "
    "'web_fetches_kcount', 'web_searches_kcount', 'x_searches_kcount']"
)
ABOUT = 'provider = "openai"\nmodel = "gpt-x"\nstart = 2026-01-01\nsource = "contract 7"\n'


def write_rates(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "rates.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_an_entry_keeps_every_digit(tmp_path: Path) -> None:
    """Prices are read as exact decimals, written as a number, a whole number or a string."""
    path = write_rates(tmp_path, f'[[rates]]\n{ABOUT}input_mtok = 1.10\noutput_mtok = 8\ncache_read_mtok = "0.11"\n')

    (rate,) = read_rates(path)

    assert rate == Rate(
        provider="openai",
        model="gpt-x",
        start=date(2026, 1, 1),
        source="contract 7",
        prices={"input_mtok": Decimal("1.10"), "output_mtok": Decimal(8), "cache_read_mtok": Decimal("0.11")},
        service_tier=None,
    )
    assert str(rate.prices["input_mtok"]) == "1.10"


def test_an_entry_may_be_for_a_tier_and_have_context_tiers(tmp_path: Path) -> None:
    """A rate can be for one service tier, and a price can rise with the length of the input."""
    path = write_rates(
        tmp_path,
        f'[[rates]]\n{ABOUT}service_tier = "flex"\n'
        "input_mtok = { base = 1, tiers = [{ start = 400000, price = 4 }, { start = 200000, price = 2.5 }] }\n",
    )

    (rate,) = read_rates(str(path))

    assert rate.service_tier == "flex"
    assert rate.prices == {
        "input_mtok": TieredPrices(
            base=Decimal(1), tiers=[Tier(start=200_000, price=Decimal("2.5")), Tier(start=400_000, price=Decimal(4))]
        )
    }


def test_a_rate_of_zero_is_a_rate(tmp_path: Path) -> None:
    """A self-hosted model may cost nothing."""
    path = write_rates(tmp_path, f"[[rates]]\n{ABOUT}input_mtok = 0\n")

    assert read_rates(path)[0].prices == {"input_mtok": Decimal(0)}


def test_entries_keep_their_order(tmp_path: Path) -> None:
    """The rates of a file keep the order in which they were appended."""
    path = write_rates(tmp_path, "".join(f"[[rates]]\n{ABOUT}input_mtok = {usd}\n" for usd in (3, 1, 2)))

    assert [rate.prices["input_mtok"] for rate in read_rates(path)] == [3, 1, 2]


def test_every_price_key_can_be_written(tmp_path: Path) -> None:
    """Each known price key is read."""
    path = write_rates(tmp_path, f"[[rates]]\n{ABOUT}" + "".join(f"{key} = 1\n" for key in sorted(PRICE_KEYS)))

    assert read_rates(path)[0].prices == dict.fromkeys(PRICE_KEYS, Decimal(1))


@pytest.mark.parametrize(
    ("provider", "model", "requested", "fits"),
    [
        ("openai", "gpt-5.2", ("openai", "gpt-5.2"), True),
        ("openai", "gpt-5.2", ("openai", "gpt-5.2-2025-12-11"), False),
        ("openai", "gpt-5.2*", ("openai", "gpt-5.2-2025-12-11"), True),
        ("OpenAI", "GPT-5.2", ("openai", "gpt-5.2"), True),
        ("openai", "gpt-5.2", ("azure", "gpt-5.2"), False),
        ("*", "llama-*", ("vllm", "Llama-4"), True),
    ],
    ids=["exact", "dated_name", "pattern", "upper_case", "other_provider", "any_provider"],
)
def test_a_rate_is_for_names_and_patterns(provider: str, model: str, requested: tuple[str, str], fits: bool) -> None:
    """A rate matches its exact names or patterns, in upper and lower case."""
    rate = Rate(provider, model, date(2026, 1, 1), "contract 7", {"input_mtok": Decimal(1)})

    assert rate.is_for(*requested) is fits


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "found the keys [], wanted [[rates]] tables only."),
        ("rates = 1\n", "found the keys ['rates'], wanted [[rates]] tables only."),
        (
            f"title = 'x'\n[[rates]]\n{ABOUT}input_mtok = 1\n",
            "found the keys ['rates', 'title'], wanted [[rates]] tables only.",
        ),
        ("rates = [1]\n", "entry 1 is 1, wanted a table; write it as [[rates]]."),
        (
            '[[rates]]\nprovider = "openai"\nmodel = "gpt-x"\ninput_mtok = 1\n',
            "entry 1 lacks ['source', 'start']; give every rate its start and source.",
        ),
        (
            f"[[rates]]\n{ABOUT}input_mtok = 1\n[[rates]]\n{ABOUT}input = 1\noutput = 1\n",
            f"entry 2 has unknown keys ['input', 'output']; known are {KEYS}.",
        ),
        (f"[[rates]]\n{ABOUT}", f"entry 1 has no price; give at least one of {KEYS}."),
        (
            f"[[rates]]\n{ABOUT.replace('2026-01-01', chr(34) + '2026-01-01' + chr(34))}input_mtok = 1\n",
            "entry 1 has start = '2026-01-01', wanted a date.",
        ),
        (
            f"[[rates]]\n{ABOUT.replace('2026-01-01', '2026-01-01T00:00:00')}input_mtok = 1\n",
            "entry 1 has start = datetime.datetime(2026, 1, 1, 0, 0), wanted a date.",
        ),
        (f"[[rates]]\n{ABOUT.replace('contract 7', '')}input_mtok = 1\n", "entry 1 has source = '', wanted a str."),
        (f"[[rates]]\n{ABOUT}service_tier = 1\ninput_mtok = 1\n", "entry 1 has service_tier = 1, wanted a str."),
        (
            f"[[rates]]\n{ABOUT}input_mtok = -0.1\n",
            "entry 1 has input_mtok = Decimal('-0.1'), wanted dollars of 0 or more.",
        ),
        (
            f"[[rates]]\n{ABOUT}input_mtok = nan\n",
            "entry 1 has input_mtok = Decimal('NaN'), wanted dollars of 0 or more.",
        ),
        (
            f"[[rates]]\n{ABOUT}input_mtok = inf\n",
            "entry 1 has input_mtok = Decimal('Infinity'), wanted dollars of 0 or more.",
        ),
        (f"[[rates]]\n{ABOUT}input_mtok = true\n", "entry 1 has input_mtok = True, wanted dollars of 0 or more."),
        (f"[[rates]]\n{ABOUT}input_mtok = 'free'\n", "entry 1 has input_mtok = 'free', wanted dollars of 0 or more."),
        (f"[[rates]]\n{ABOUT}input_mtok = [1]\n", "entry 1 has input_mtok = [1], wanted dollars of 0 or more."),
        (
            f"[[rates]]\n{ABOUT}input_mtok = {{ base = 1 }}\n",
            "entry 1 has input_mtok = {'base': 1}, wanted dollars of 0 or more.",
        ),
        (
            f"[[rates]]\n{ABOUT}input_mtok = {{ base = -1, tiers = [] }}\n",
            "entry 1 has input_mtok = -1, wanted dollars of 0 or more.",
        ),
        (
            f"[[rates]]\n{ABOUT}input_mtok = {{ base = 1, tiers = [{{ start = 1 }}] }}\n",
            "entry 1 has the input_mtok tier {'start': 1}, wanted {start, price}.",
        ),
        (
            f"[[rates]]\n{ABOUT}input_mtok = {{ base = 1, tiers = [{{ start = 1.5, price = 1 }}] }}\n",
            "entry 1 has the input_mtok tier {'start': Decimal('1.5'), 'price': 1}, wanted {start, price}.",
        ),
        (
            f"[[rates]]\n{ABOUT}input_mtok = {{ base = 1, tiers = [{{ start = 1, price = 'x' }}] }}\n",
            "entry 1 has input_mtok = 'x', wanted dollars of 0 or more.",
        ),
    ],
    ids=[
        "empty_file",
        "rates_no_list",
        "other_tables",
        "entry_no_table",
        "missing_fields",
        "unknown_keys",
        "no_price",
        "start_as_text",
        "start_with_time",
        "empty_source",
        "tier_as_number",
        "negative",
        "nan",
        "infinite",
        "boolean",
        "word",
        "list",
        "base_alone",
        "negative_base",
        "tier_without_price",
        "tier_with_half_token",
        "tier_with_word",
    ],
)
def test_a_file_with_an_invalid_entry_is_refused_whole(tmp_path: Path, text: str, problem: str) -> None:
    """A file with an invalid entry is refused with the entry's number and the reason, never read in part."""
    path = write_rates(tmp_path, text)

    with pytest.raises(ConfigError) as raised:
        read_rates(path)

    assert str(raised.value) == f"Rates file {str(path)!r}: {problem}"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """The error names the missing file."""
    path = tmp_path / "absent.toml"

    with pytest.raises(ConfigError) as raised:
        read_rates(path)

    assert str(raised.value) == f"Rates file {str(path)!r}: No such file or directory; name an existing file."


@pytest.mark.parametrize("text", [b"[[rates]\n", b"\xff\xfe"], ids=["broken_table", "no_utf8"])
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, text: bytes) -> None:
    """The error for invalid TOML contains the parser's reason."""
    path = write_rates(tmp_path, text)

    with pytest.raises(ConfigError) as raised:
        read_rates(path)

    assert str(raised.value) == f"Rates file {str(path)!r}: no valid TOML ({raised.value.__cause__})."
