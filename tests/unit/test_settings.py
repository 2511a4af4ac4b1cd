"""Settings: every variable, every mistake named at once, no secret in sight."""

from __future__ import annotations

import dataclasses
import os
import re
from decimal import Decimal
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import settings as settings_module
from config.settings import SettingsError, load_settings, require_webhook
from config.values import ROOT
from lnpay.domain.events import EventType
from lnpay.domain.money import CURRENCIES
from lnpay.domain.settings import Logo, Settings
from lnpay.domain.states import LatePayments

KEY = {"STRIKE_API_KEY": "the-key-of-strike"}
NO_FILE = Path("no such file")
EXAMPLE = ROOT / "config" / ".env.example"
DELIVERY_SECRET = "whsec_" + "A" * 40

SECRETS = {
    "STRIKE_API_KEY": "strike-key-0123456789",
    "WEBHOOK_SECRET": "webhook-secret-0123456789",
    "DELIVERY_SECRET": DELIVERY_SECRET,
    "API_KEYS": "api-key-0123456789,api-key-9876543210",
    "COINGECKO_API_KEY": "CG-0123456789",
    "DATABASE_URL": "postgresql+psycopg://shop:database-password@db.example/lnpay",
    "DELIVERY_URL": "https://user:delivery-password@shop.example/hook",
}


def load(**variables: str) -> Settings:
    """Settings of an environment with the Strike key and these, without a file."""
    return load_settings({**KEY, **variables}, NO_FILE)


def problems_of(**variables: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as error:
        load(**variables)
    return error.value.problems


def problem_of(**variables: str) -> str:
    [problem] = problems_of(**variables)
    return problem


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / ".env"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


class TestWhere:
    def test_the_environment_may_name_another_file(self, tmp_path: Path) -> None:
        path = written(tmp_path, "CURRENCY=eur\n")

        assert load_settings({**KEY, "LNPAY_ENV_FILE": str(path)}).currency == "eur"


class TestDefaults:
    def test_only_the_strike_key_is_needed(self) -> None:
        assert load() == Settings(
            strike_api_key="the-key-of-strike",
            webhook_secret="",
            webhook_secret_old="",
            webhook_url="",
            time_offset_seconds=120,
            currency="usd",
            database_url=f"sqlite:///{ROOT / 'invoices.sqlite'}",
            db_pool_size=30,
            db_statement_timeout_seconds=0,
            worker_host="",
            delivery_url="http://localhost:8000/webhook",
            delivery_secret="",
            delivery_events=frozenset({EventType.INVOICE_SETTLED}),
            api_keys=(),
            cors_origins=(),
            greenfield=True,
            trusted_proxies=("127.0.0.0/8", "::1/128"),
            host="127.0.0.1",
            port=5000,
            strike_api_url="https://api.strike.me/v1",
            coingecko_api_url="https://api.coingecko.com/api/v3",
            coingecko_api_key="",
            coinbase_api_url="https://api.coinbase.com/v2",
            rate_max_age_seconds=300,
            rate_max_spread_percent=Decimal(5),
            refund_max_fee_percent=Decimal(2),
            refunds_enabled=True,
            refund_max_sats=None,
            refund_daily_max_sats=None,
            refund_min_sats=100,
            late_payments=LatePayments.REFUND,
            late_accept_percent=Decimal(1),
            prune_after_days=90,
            archive_after_days=0,
            webhook_allow_private=False,
            admin_password="",
            metrics_token="",
            log_level="info",
            log_format="text",
        )

    def test_an_empty_value_is_an_absent_one(self) -> None:
        names = [name for name in example_names() if name != "STRIKE_API_KEY"]

        assert load(**dict.fromkeys(names, "")) == load()
        assert load(**dict.fromkeys(names, "  ")) == load()

    def test_without_the_strike_key_it_says_where_to_get_one(self) -> None:
        with pytest.raises(SettingsError, match="STRIKE_API_KEY is missing: make an API key at https"):
            load_settings({}, NO_FILE)

    def test_the_real_environment_and_file_are_the_default(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        for name in example_names():
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(settings_module, "ENV_FILE", written(tmp_path, "STRIKE_API_KEY=filekey\nPORT=5050"))
        monkeypatch.setenv("PORT", "5060")

        settings = load_settings()

        assert (settings.strike_api_key, settings.port) == ("filekey", 5060)

    def test_settings_cannot_be_changed(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            load().port = 1  # type: ignore[misc]


class TestFile:
    def test_the_environment_wins(self, tmp_path: Path) -> None:
        path = written(tmp_path, "STRIKE_API_KEY=of-the-file\nCURRENCY=eur\n")

        settings = load_settings({"STRIKE_API_KEY": "of-the-environment"}, path)

        assert (settings.strike_api_key, settings.currency) == ("of-the-environment", "eur")

    def test_an_empty_variable_does_not_hide_the_files(self, tmp_path: Path) -> None:
        assert load_settings({**KEY, "CURRENCY": ""}, written(tmp_path, "CURRENCY=eur")).currency == "eur"

    def test_the_environment_is_left_as_it_is(self, tmp_path: Path) -> None:
        before = dict(os.environ)

        load_settings(KEY, written(tmp_path, "CURRENCY=eur\nLOG_LEVEL=debug"))

        assert dict(os.environ) == before

    def test_a_dollar_in_a_secret_stays_one(self, tmp_path: Path) -> None:
        path = written(tmp_path, "WEBHOOK_SECRET=abc${HOME}def$x\nSTRIKE_API_KEY='a$b'\n")

        settings = load_settings({"HOME": "/home"}, path)

        assert (settings.webhook_secret, settings.strike_api_key) == ("abc${HOME}def$x", "a$b")

    @pytest.mark.parametrize(
        "text",
        [
            "CURRENCY=eur",
            "export CURRENCY=eur",
            "CURRENCY = 'eur'  # the shop is in Lisbon",
            'CURRENCY="eur"',
            b"\xef\xbb\xbfCURRENCY=eur\r\nPORT=5000\r\n",
        ],
    )
    def test_it_may_be_written_as_people_write_it(self, tmp_path: Path, text: str | bytes) -> None:
        assert load_settings(KEY, written(tmp_path, text)).currency == "eur"

    def test_a_name_without_a_value_is_an_absent_one(self, tmp_path: Path) -> None:
        assert load_settings(KEY, written(tmp_path, "CURRENCY\n")).currency == "usd"

    @pytest.mark.parametrize(
        "text", ["CURRENCY=eur\nCURRENCY=\n", "CURRENCY=\nCURRENCY=eur\n", "CURRENCY=eur\nCURRENCY\n"]
    )
    def test_an_empty_line_hides_no_other_of_the_same_name(self, tmp_path: Path, text: str) -> None:
        assert load_settings(KEY, written(tmp_path, text)).currency == "eur"

    @pytest.mark.parametrize("path", [r"C:\new\shop.sqlite", r"C:\temp\shop.sqlite", r"C:\a\records.sqlite"])
    def test_a_backslash_that_double_quotes_turn_into_a_control_character_is_named(
        self, tmp_path: Path, path: str
    ) -> None:
        with pytest.raises(SettingsError, match="DATABASE_URL has a line break, a tab"):
            load_settings(KEY, written(tmp_path, f'DATABASE_URL="sqlite:///{path}"'))

    def test_a_line_that_is_no_setting_is_named(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SettingsError, match=r"\.env, line 2 is not of the form NAME=value"):
            load_settings(KEY, written(tmp_path, "CURRENCY=eur\n'oops\nPORT=1\n"))

        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("text", [b"\xff\xfeC\x00", b"CURRENCY=\xe9"])
    def test_one_that_is_not_text_is_named(self, tmp_path: Path, text: bytes) -> None:
        with pytest.raises(SettingsError, match="UTF-8"):
            load_settings(KEY, written(tmp_path, text))

    def test_one_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="cannot be read"):
            load_settings(KEY, tmp_path)

    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("STRIKE_APIKEY", "STRIKE_API_KEY"),
            ("strike_api_key", "STRIKE_API_KEY"),
            ("STRIKE-API-KEY", "STRIKE_API_KEY"),
            ("API_KEY", "API_KEYS"),
            ("CURENCY", "CURRENCY"),
            ("WEBHOOK_SECRETS", "WEBHOOK_SECRET"),
            ("DELIVERY_EVENT", "DELIVERY_EVENTS"),
            ("RATE_MAX_AGE_SECONDS", "RATE_MAX_AGE"),
        ],
    )
    def test_a_misspelt_name_is_named_with_the_right_one(self, tmp_path: Path, name: str, meant: str) -> None:
        with pytest.raises(SettingsError) as error:
            load_settings(KEY, written(tmp_path, f"{name}=some-value"))

        assert error.value.problems == (f"{name} is not a setting: did you mean {meant}?",)
        assert "some-value" not in str(error.value)

    def test_names_of_other_programs_are_let_be(self, tmp_path: Path) -> None:
        assert load_settings(KEY, written(tmp_path, "TZ=UTC\nPYTHONPATH=.\nHTTPS_PROXY=http://x\n")) == load()


class TestMistakes:
    def test_all_are_in_one_text(self) -> None:
        with pytest.raises(SettingsError) as error:
            load_settings({"PORT": "http", "CURRENCY": "euro", "API_KEYS": "short"}, NO_FILE)

        for name in ("STRIKE_API_KEY", "PORT", "CURRENCY", "API_KEYS"):
            assert name in str(error.value)
        assert len(error.value.problems) == 4
        assert "config/.env.example" in str(error.value)

    def test_a_wrong_value_is_shown_shortened(self) -> None:
        assert problem_of(PORT="x" * 1000) == (
            f'PORT is "{"x" * 40}…", but must be the number of a port: a whole number from 0 to 65535'
        )

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("STRIKE_API_KEY", "very secret"),
            ("WEBHOOK_SECRET", "secret"),
            ("WEBHOOK_SECRET", "secret" * 9),
            ("WEBHOOK_SECRET", "secret secret"),
            ("DELIVERY_SECRET", "secret"),
            ("DELIVERY_SECRET", "whsec_secret!"),
            ("API_KEYS", "secret"),
            ("API_KEYS", "0123456789abcdefg,secret"),
            ("API_KEYS", "secret with spaces that is long"),
            ("COINGECKO_API_KEY", "secreté"),
            ("DATABASE_URL", "postgres://me:secret@host/db"),
            ("DATABASE_URL", "postgresql+psycopg://me:secret@host"),
            ("DATABASE_URL", "postgresql+psycopg://me:secret@host:port/db"),
            ("DATABASE_URL", "secret"),
            ("DELIVERY_URL", "ftp://me:secret@host/"),
        ],
    )
    def test_a_wrong_secret_is_named_and_never_shown(self, name: str, value: str) -> None:
        with pytest.raises(SettingsError) as error:
            load(**{name: value})

        assert len(error.value.problems) == 1
        assert error.value.problems[0].startswith(name)
        text = str(error.value)
        assert "secret" not in text.replace("WEBHOOK_SECRET", "").replace("DELIVERY_SECRET", "")

    def test_no_secret_is_in_the_repr(self) -> None:
        text = repr(load(**SECRETS))

        for value in SECRETS.values():
            assert value not in text
        for part in ("0123456789", "9876543210", "password", DELIVERY_SECRET):
            assert part not in text
        assert "port=5000" in text


class TestValues:
    @pytest.mark.parametrize("code", sorted(CURRENCIES))
    def test_any_known_currency_is_taken_in_any_case(self, code: str) -> None:
        assert load(CURRENCY=code.upper()).currency == code

    @pytest.mark.parametrize(
        ("code", "hint"),
        [
            ("euro", "did you mean eur?"),
            ("uds", "did you mean usd?"),
            ("bitcoin", "currency; all are: aed"),
            ("€", "currency; all are: aed"),
        ],
    )
    def test_an_unknown_currency_is_answered_with_the_nearest(self, code: str, hint: str) -> None:
        assert hint in problem_of(CURRENCY=code)

    @pytest.mark.parametrize(
        ("name", "attribute", "low", "high"),
        [
            ("TIME_OFFSET", "time_offset_seconds", 10, 86_400),
            ("PORT", "port", 0, 65_535),
            ("DB_POOL_SIZE", "db_pool_size", 2, 500),
            ("DB_STATEMENT_TIMEOUT", "db_statement_timeout_seconds", 0, 3_600),
            ("RATE_MAX_AGE", "rate_max_age_seconds", 30, 86_400),
            ("REFUND_MAX_SATS", "refund_max_sats", 1, 21_000_000 * 10**8),
            ("REFUND_DAILY_MAX_SATS", "refund_daily_max_sats", 1, 21_000_000 * 10**8),
            ("REFUND_MIN_SATS", "refund_min_sats", 0, 1_000_000),
        ],
    )
    def test_whole_numbers_have_bounds(self, name: str, attribute: str, low: int, high: int) -> None:
        assert getattr(load(**{name: str(low)}), attribute) == low
        assert getattr(load(**{name: f" {high} "}), attribute) == high
        for wrong in (str(low - 1), str(high + 1), "-5", "1.5", "1e3", "1_000", "many", "٣٠٠", "9" * 5000):
            assert problem_of(**{name: wrong}).startswith(name)

    def test_a_machine_has_a_name_that_can_be_shown(self) -> None:
        assert load(WORKER_HOST="web-1.example_a").worker_host == "web-1.example_a"
        for wrong in ("x" * 65, "web 1", "büro", "a/b"):
            assert "at most 64 letters" in problem_of(WORKER_HOST=wrong)

    def test_a_shop_has_a_name_of_one_line(self) -> None:
        assert load(SHOP_NAME="  Bücher   &  Meer ").shop_name == "Bücher & Meer"
        assert load().shop_name == ""
        for wrong in ("x" * 41, "a\x00b", "a\u202eb"):
            assert problem_of(SHOP_NAME=wrong).startswith("SHOP_NAME")

    def test_a_colour_must_carry_white_text(self) -> None:
        assert load(SHOP_COLOR="#0A6B4D").shop_color == "#0a6b4d"
        for wrong in ("green", "0a6b4d", "#0a6", "rgb(0,0,0)", "#0a6b4d;}"):
            assert "must be a colour such as #0a6b4d" in problem_of(SHOP_COLOR=wrong)
        assert "is too light: the white text on its buttons has a contrast of 1.1" in problem_of(SHOP_COLOR="#ffff00")

    LOGOS: ClassVar = {
        "image/png": b"\x89PNG\r\n\x1a\nx",
        "image/jpeg": b"\xff\xd8\xff\xe0x",
        "image/webp": b"RIFF\x04\x00\x00\x00WEBPVP8 ",
    }

    @pytest.mark.parametrize(("media_type", "content"), LOGOS.items())
    def test_a_logo_is_what_its_content_says(self, tmp_path: Path, media_type: str, content: bytes) -> None:
        (tmp_path / "logo.svg").write_bytes(content)

        assert load(SHOP_LOGO=str(tmp_path / "logo.svg")).shop_logo == Logo(content, media_type)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", "is an SVG, which can hold scripts"),
            (b"\xef\xbb\xbf\n<?xml version='1.0'?><svg/>", "is an SVG"),
            (b"<html>", "is not a PNG, JPEG or WebP image"),
            (b"", "is not a PNG, JPEG or WebP image"),
            (b"GIF89a", "is not a PNG, JPEG or WebP image"),
            (b"\x89PNG\r\n\x1a\n" + b"x" * 204_800, "is larger than 200 KiB"),
        ],
    )  # fmt: skip
    def test_a_logo_that_cannot_be_one_is_named(self, tmp_path: Path, content: bytes, words: str) -> None:
        (tmp_path / "logo.png").write_bytes(content)

        assert words in problem_of(SHOP_LOGO=str(tmp_path / "logo.png"))

    def test_a_logo_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        assert "cannot be read: No such file" in problem_of(SHOP_LOGO=str(tmp_path / "none.png"))

    def test_a_file_named_logo_is_found_and_checked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("config.settings.LOGO_FOLDER", tmp_path)
        assert load().shop_logo is None
        (tmp_path / "logo.webp").write_bytes(self.LOGOS["image/webp"])
        (tmp_path / "logo.svg").write_bytes(b"<svg/>")
        found = load().shop_logo
        (tmp_path / "logo.webp").unlink()

        assert found == Logo(self.LOGOS["image/webp"], "image/webp")
        assert load().shop_logo is None
        (tmp_path / "logo.png").write_bytes(b"<svg/>")
        assert "is an SVG" in problem_of()

    def test_unpaid_invoices_are_kept_for_a_month_at_least_or_always(self) -> None:
        assert [load(PRUNE_AFTER_DAYS=text).prune_after_days for text in ("0", "30", "3650")] == [0, 30, 3650]
        for wrong in ("1", "29", "3651", "-5", "never", "30.5"):
            assert problem_of(PRUNE_AFTER_DAYS=wrong).startswith("PRUNE_AFTER_DAYS")

    def test_archiving_is_off_or_begins_after_a_month_at_least(self) -> None:
        days = [load(ARCHIVE_AFTER=text).archive_after_days for text in ("off", "OFF", "0", "30", "3650")]
        assert days == [0, 0, 0, 30, 3650]
        for wrong in ("1", "29", "3651", "-5", "on", "30.5"):
            assert problem_of(ARCHIVE_AFTER=wrong).startswith("ARCHIVE_AFTER")

    @pytest.mark.parametrize(
        ("name", "attribute"),
        [
            ("RATE_MAX_SPREAD_PERCENT", "rate_max_spread_percent"),
            ("REFUND_MAX_FEE_PERCENT", "refund_max_fee_percent"),
            ("LATE_ACCEPT_PERCENT", "late_accept_percent"),
        ],
    )
    def test_percentages_are_exact(self, name: str, attribute: str) -> None:
        for right in ("0", "0.5", "2.25", "100"):
            assert getattr(load(**{name: right}), attribute) == Decimal(right)
        for wrong in ("-1", "100.01", "101", "5%", "2,5", "NaN", "Infinity", "1e1", ".5", "half"):
            assert "decimal point" in problem_of(**{name: wrong})

    @pytest.mark.parametrize(
        ("word", "value"),
        [
            *(("on", True), ("true", True), ("Yes", True), ("1", True)),
            *(("OFF", False), ("False", False), ("no", False), ("0", False)),
        ],
    )
    def test_refunds_are_on_or_off(self, word: str, value: bool) -> None:
        assert load(REFUNDS_ENABLED=word).refunds_enabled is value

    def test_another_word_is_neither(self) -> None:
        assert problem_of(REFUNDS_ENABLED="disabled") == 'REFUNDS_ENABLED is "disabled", but must be on or off'

    def test_log_levels_have_names(self) -> None:
        assert load(LOG_LEVEL="DEBUG").log_level == "debug"
        assert "debug, info, warning, error" in problem_of(LOG_LEVEL="loud")

    def test_logs_have_two_formats(self) -> None:
        assert load(LOG_FORMAT="JSON").log_format == "json"
        assert "text, json" in problem_of(LOG_FORMAT="xml")

    def test_a_password_or_token_that_can_be_guessed_is_refused(self) -> None:
        assert "fewer than 12 characters" in problem_of(ADMIN_PASSWORD="elevenchars")
        assert "less than 16 characters" in problem_of(METRICS_TOKEN="x" * 15)

        settings = load(ADMIN_PASSWORD="twelve chars", METRICS_TOKEN="x" * 16)

        assert (settings.admin_password, settings.metrics_token) == ("twelve chars", "x" * 16)

    def test_events_are_a_comma_list(self) -> None:
        settings = load(DELIVERY_EVENTS="invoice.settled, Refund.sent,,invoice.settled")

        assert settings.delivery_events == {"invoice.settled", "refund.sent"}

    def test_none_means_no_event(self) -> None:
        assert load(DELIVERY_EVENTS="none").delivery_events == frozenset()

    @pytest.mark.parametrize(
        ("events", "why"),
        [("invoice.paid", "refund.needs_address"), (",", "no event"), ("none,invoice.settled", "must be none")],
    )
    def test_an_unknown_event_is_answered_with_the_known_ones(self, events: str, why: str) -> None:
        assert why in problem_of(DELIVERY_EVENTS=events)

    def test_api_keys_are_a_comma_list(self) -> None:
        keys = load(API_KEYS="first-key-0123456, second-key-012345,first-key-0123456,").api_keys

        assert keys == ("first-key-0123456", "second-key-012345")

    def test_an_api_key_has_16_characters_or_more(self) -> None:
        assert load(API_KEYS="a" * 16).api_keys == ("a" * 16,)
        assert "16 characters" in problem_of(API_KEYS="a" * 15)

    def test_a_webhook_secret_has_the_length_strike_takes(self) -> None:
        for length in (10, 50):
            assert load(WEBHOOK_SECRET="s" * length).webhook_secret == "s" * length
        for length in (9, 51):
            assert "key_generator.py" in problem_of(WEBHOOK_SECRET="s" * length)

    def test_a_delivery_secret_is_one_that_signs(self) -> None:
        assert load(DELIVERY_SECRET=DELIVERY_SECRET).delivery_secret == DELIVERY_SECRET
        assert "--delivery" in problem_of(DELIVERY_SECRET="whsec_short")

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "::1", "localhost", "pay.shop.example"])  # noqa: S104
    def test_a_host_is_an_address_to_listen_on(self, host: str) -> None:
        assert load(HOST=host).host == host

    def test_an_ipv6_host_may_be_in_brackets(self) -> None:
        assert load(HOST="[::1]").host == "::1"

    @pytest.mark.parametrize(
        "host",
        ["http://localhost", "local host", "localhost/", "[::1", "[1.2.3.4]", "127.0.0.1:5000", "fe80:::1", "-a", "*"],
    )
    def test_a_host_is_nothing_else(self, host: str) -> None:
        assert problem_of(HOST=host).startswith("HOST")


class TestUrls:
    @pytest.mark.parametrize("name", ["STRIKE_API_URL", "COINGECKO_API_URL", "COINBASE_API_URL"])
    @pytest.mark.parametrize(
        "url", ["https://api.example/v1", "http://localhost:5001/v1", "http://127.0.0.1:5001", "http://[::1]:1/x"]
    )
    def test_a_providers_address_is_https_or_on_this_machine(self, name: str, url: str) -> None:
        assert getattr(load(**{name: url + "/"}), name.lower()) == url

    @pytest.mark.parametrize("name", ["STRIKE_API_URL", "COINGECKO_API_URL", "COINBASE_API_URL", "WEBHOOK_URL"])
    @pytest.mark.parametrize(
        "url",
        [
            *("http://api.example/webhook", "http://localhost.evil.example/webhook", "https://u:p@host/webhook"),
            *("https://host/webhook?x=1", "https://host/webhook#x", "https://host/webhook?", "ftp://host/webhook"),
            *("host/webhook", "//host/webhook", "https://", "https:///webhook", "https://[::1/webhook"),
            *("https://host:port/webhook", "https://host:99999/webhook", "https://host:0/webhook", "https://*/webhook"),
            *("https://ho st/webhook", "https://höst/webhook", "javascript:alert(1)"),
        ],
    )
    def test_nothing_else_is(self, name: str, url: str) -> None:
        assert problem_of(**{name: url}).startswith(name)

    @pytest.mark.parametrize("name", ["DELIVERY_URL", "WEBHOOK_URL", "STRIKE_API_URL"])
    @pytest.mark.parametrize(
        ("url", "advice"),
        [
            ("https://müller.example", "xn--mller-kva.example"),
            ("https://☕.example", "xn-- form"),
            ("https://ä..example", "must have the name of a host"),
            ("https://pay.example/ü", "%C3%BC"),
            ("https://pay.example:99999", "a port that is not a number"),
            ("https://pay.example:x", "a port that is not a number"),
            ("https://pay.example:0", "a port that is not a number"),
            ("https:///webhook", "the name of a host after https://"),
            ("http://", "the name of a host after http://"),
            ("https://..../webhook", "the name of a host"),
            ("https://[fe80::1%25eth0]/webhook", "the name of a host"),
            ("https://[::1/webhook", "the name of a host"),
            ("https:/pay.example", "starts with https://"),
            ("pay.example/webhook", "starts with https://"),
            ("//pay.example/webhook", "starts with https://"),
        ],
    )
    def test_a_wrong_address_is_refused_with_what_is_wrong_in_it(self, name: str, url: str, advice: str) -> None:
        assert advice in problem_of(**{name: url})

    @pytest.mark.parametrize("url", ["https://pay.shop.example/webhook", "http://localhost:5000/webhook"])
    def test_the_webhooks_address_is_public_or_on_this_machine(self, url: str) -> None:
        assert load(WEBHOOK_URL=url).webhook_url == url

    @pytest.mark.parametrize("url", ["https://pay.shop.example", "https://pay.shop.example/webhook/"])
    def test_the_webhooks_address_ends_as_the_route_does(self, url: str) -> None:
        assert "must end in /webhook" in problem_of(WEBHOOK_URL=url)

    @pytest.mark.parametrize(
        "url", ["http://shop.internal/orders?source=lnpay", "https://user:password@shop.example/hook/"]
    )
    def test_the_shops_address_may_be_any(self, url: str) -> None:
        assert load(DELIVERY_URL=url).delivery_url == url

    def test_trusted_proxies_are_addresses_and_networks(self) -> None:
        proxies = load(TRUSTED_PROXIES="10.0.0.7, 172.16.0.0/12,fd00::/8").trusted_proxies

        assert proxies == ("10.0.0.7/32", "172.16.0.0/12", "fd00::/8")

    @pytest.mark.parametrize("text", ["proxy.internal", "10.0.0.1/8", "10.0.0.0/33", "*"])
    def test_an_invalid_network_is_refused(self, text: str) -> None:
        assert "must be a comma list of addresses or networks" in problem_of(TRUSTED_PROXIES=text)

    def test_origins_are_a_comma_list(self) -> None:
        origins = load(CORS_ORIGINS="https://shop.example,http://localhost:8080").cors_origins

        assert origins == ("https://shop.example", "http://localhost:8080")
        assert load(CORS_ORIGINS="*").cors_origins == ("*",)

    @pytest.mark.parametrize(
        "origin",
        [
            *("https://shop.example/", "https://shop.example/shop", "https://Shop.example", "HTTPS://shop.example"),
            *("https://shop.example?x", "https://a@shop.example", "shop.example", "https://*", "null", "https://a b"),
        ],
    )
    def test_what_a_browser_would_never_send_as_origin_is_refused(self, origin: str) -> None:
        assert problem_of(CORS_ORIGINS=f"https://good.example,{origin}").startswith("CORS_ORIGINS")


class TestDatabase:
    def test_a_relative_file_is_in_the_projects_folder_wherever_cron_starts(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        here = load(DATABASE_URL="sqlite:///shop.sqlite").database_url
        monkeypatch.chdir(tmp_path)

        assert load(DATABASE_URL="sqlite:///shop.sqlite").database_url == here
        assert here == f"sqlite:///{ROOT / 'shop.sqlite'}"

    def test_an_absolute_file_stays_where_it_is(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'shop.sqlite'}"

        assert load(DATABASE_URL=url).database_url == url

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql+psycopg://lnpay:p%40ss@db.example:5433/lnpay?sslmode=require",
            "postgresql+psycopg://lnpay@/lnpay?host=/run/postgresql",
        ],
    )
    def test_a_postgresql_server_is_taken_as_written(self, url: str) -> None:
        assert load(DATABASE_URL=url).database_url == url

    @pytest.mark.parametrize(
        ("url", "why"),
        [
            ("postgres://me@host/db", "postgresql+psycopg:// instead of postgres://"),
            ("postgresql://me@host/db", "postgresql+psycopg:// instead of postgresql://"),
            ("mysql://me@host/db", "sqlite:/// or postgresql+psycopg://"),
            ("postgresql+asyncpg://me@host/db", "sqlite:/// or postgresql+psycopg://"),
            ("postgresql+psycopg://me@host", "must name a database"),
            ("postgresql+psycopg://me@host:port/db", "must be sqlite:///file.sqlite or"),
            ("invoices.sqlite", "must be sqlite:///file.sqlite or"),
            ("sqlite://", "must name a file"),
            ("sqlite:///:memory:", "must name a file"),
            ("sqlite:///no/such/folder/x.sqlite", "create the folder first"),
            ("sqlite:///config", "names a folder"),
            ("sqlite:///.", "names a folder"),
        ],
    )
    def test_another_one_is_refused_with_what_to_write(self, url: str, why: str) -> None:
        assert why in problem_of(DATABASE_URL=url)


class TestWebhook:
    def test_subscribing_needs_address_and_secret(self) -> None:
        with pytest.raises(SettingsError) as error:
            require_webhook(load())

        assert [problem.split()[0] for problem in error.value.problems] == ["WEBHOOK_URL", "WEBHOOK_SECRET"]

    def test_with_both_there_is_nothing_to_say(self) -> None:
        require_webhook(load(WEBHOOK_URL="https://pay.shop.example/webhook", WEBHOOK_SECRET="s" * 32))


def example_names() -> list[str]:
    return re.findall(r"^(?:# )?([A-Z_]+)=", EXAMPLE.read_text("utf-8"), re.MULTILINE)


@given(st.data(), st.text() | st.sampled_from(["https://", "https://[", "sqlite://", "postgres://", "1" * 400]))
def test_no_text_is_worse_than_a_refusal(data: st.DataObject, value: str) -> None:
    name = data.draw(st.sampled_from(example_names()))

    try:
        load(**{name: value})
    except SettingsError as error:
        problems = error.problems
    else:
        problems = ()

    assert all(problem.startswith(name) for problem in problems)


class TestExample:
    def test_it_names_every_setting_once(self) -> None:
        fields = {field.name for field in dataclasses.fields(Settings)} - {"env_file", "hook_files"}
        in_seconds = ("time_offset", "rate_max_age", "db_statement_timeout")
        units = {"archive_after": "archive_after_days", **{name: f"{name}_seconds" for name in in_seconds}}

        names = [name.lower() for name in example_names()]

        assert len(names) == len(set(names))
        assert {units.get(name, name) for name in names} == fields

    def test_a_copy_lacks_the_strike_key_alone(self) -> None:
        with pytest.raises(SettingsError) as error:
            load_settings({}, EXAMPLE)

        assert [problem.split()[0] for problem in error.value.problems] == ["STRIKE_API_KEY"]

    def test_a_copy_with_the_key_is_the_default(self) -> None:
        assert load_settings(KEY, EXAMPLE) == load()

    def test_the_values_in_comments_are_the_defaults(self, tmp_path: Path) -> None:
        text = re.sub(r"^# (?=[A-Z_]+=)", "", EXAMPLE.read_text("utf-8"), flags=re.MULTILINE)

        assert "\nCURRENCY=usd" in text
        assert load_settings(KEY, written(tmp_path, text)) == load()

    def test_the_currencies_in_it_are_all_there_are(self) -> None:
        text = EXAMPLE.read_text("utf-8").split("one of: ")[1].split("CURRENCY=")[0]

        assert set(re.findall(r"\b[a-z]{3}\b", text)) == CURRENCIES
