"""Values as people and other programs write them: quotes, dollars, odd letters, and files that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from config.settings import SettingsError, load_settings
from config.sources import unquote
from config.values import ROOT
from tests.unit.test_settings import example_names

NO_FILE = Path("no-such-file")
KEY = {"STRIKE_API_KEY": "the-key-of-strike"}
VALUES = {
    "STRIKE_API_KEY": "the-key-of-strike", "WEBHOOK_SECRET": "0123456789", "WEBHOOK_SECRET_OLD": "9876543210",
    "WEBHOOK_URL": "https://pay.example/webhook", "TIME_OFFSET": "300", "CURRENCY": "eur",
    "DATABASE_URL": "sqlite:///x.sqlite", "DELIVERY_URL": "https://shop.example/w",
    "DELIVERY_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "DELIVERY_EVENTS": "invoice.expired,refund.sent",
    "API_KEYS": "an-api-key-of-the-tests-1,an-api-key-of-the-tests-2", "CORS_ORIGINS": "https://shop.example",
    "HOST": "::1", "PORT": "5050", "STRIKE_API_URL": "https://strike.example/v1",
    "COINGECKO_API_URL": "https://gecko.example", "COINGECKO_API_KEY": "gecko", "COINBASE_API_URL": "https://cb.example",
    "RATE_MAX_AGE": "60", "RATE_MAX_SPREAD_PERCENT": "1.5", "REFUND_MAX_FEE_PERCENT": "3", "REFUNDS_ENABLED": "off",
    "REFUND_MAX_SATS": "100", "REFUND_DAILY_MAX_SATS": "1000", "REFUND_MIN_SATS": "50",
    "LATE_PAYMENTS": "accept", "LATE_ACCEPT_PERCENT": "2.5",
    "WEBHOOK_ALLOW_PRIVATE": "on",
    "ADMIN_PASSWORD": "pa$$word of $HOME",
    "METRICS_TOKEN": "a-token-of-the-tests", "LOG_LEVEL": "debug", "LOG_FORMAT": "json",
}  # fmt: skip


def problems(**variables: str) -> str:
    with pytest.raises(SettingsError) as refused:
        load_settings({**KEY, **variables}, NO_FILE)
    return "\n".join(refused.value.problems)


class TestQuotes:
    @pytest.mark.parametrize("name", VALUES)
    @pytest.mark.parametrize("quote", ['"', "'"])
    def test_those_around_a_value_of_the_environment_are_removed(self, name: str, quote: str) -> None:
        value = VALUES[name]
        bare = load_settings({**KEY, name: value}, NO_FILE)

        assert load_settings({**KEY, name: f"{quote}{value}{quote}"}, NO_FILE) == bare
        assert load_settings({**KEY, name: f" {quote} {value} {quote} "}, NO_FILE) == bare

    @pytest.mark.parametrize("name", example_names())
    @pytest.mark.parametrize("form", ['"{}', '{}"', "'{}", "“{}”", "`{}`", "\"{}'", '""{}""', '"{}","{}"'])
    def test_odd_ones_are_refused_with_the_name(self, name: str, form: str) -> None:
        value = VALUES.get(name, "value")

        said = problems(**{name: form.format(value, value)})

        assert said.startswith(name)
        assert "quote mark" in said

    @pytest.mark.parametrize("name", [name for name in example_names() if name != "STRIKE_API_KEY"])
    def test_nothing_between_them_is_an_absent_value(self, name: str) -> None:
        assert load_settings({**KEY, name: '""'}, NO_FILE) == load_settings(KEY, NO_FILE)

    def test_a_key_of_nothing_but_quotes_is_missing(self) -> None:
        assert "STRIKE_API_KEY is missing" in problems(STRIKE_API_KEY='""')

    def test_those_in_a_list_are_refused(self) -> None:
        assert "without quotes" in problems(API_KEYS="an-api-key-of-the-tests-1,'an-api-key-of-the-tests-2'")

    @pytest.mark.parametrize("text", ["Zum 'Löwen'", "it's", 'a"b"c', "O'Neill's"])
    def test_those_inside_a_value_belong_to_it(self, text: str) -> None:
        assert unquote(text) == text

    def test_those_around_the_name_of_the_file_are_removed(self, tmp_path: Path) -> None:
        path = tmp_path / "settings.env"
        path.write_text("CURRENCY=eur\n")

        assert load_settings({**KEY, "LNPAY_ENV_FILE": f'"{path}"'}).currency == "eur"


class TestDocker:
    def test_compose_hands_the_file_over_as_it_is(self) -> None:
        compose = yaml.safe_load((ROOT / "deploy" / "docker" / "compose.yaml").read_text("utf-8"))

        assert compose["services"]["lnpay"]["env_file"] == [{"path": "../../config/.env", "format": "raw"}]

    @pytest.mark.parametrize("form", ["{}={}", "{}='{}'", '{}="{}"'])
    def test_a_value_means_the_same_there_as_in_the_file(self, tmp_path: Path, form: str) -> None:
        text = "".join(f"{form.format(name, value)}\n" for name, value in VALUES.items())
        (tmp_path / ".env").write_text(text)
        raw = dict(line.split("=", 1) for line in text.splitlines())

        in_container = load_settings(raw, NO_FILE)

        assert in_container == load_settings({}, tmp_path / ".env")
        assert in_container.admin_password == "pa$$word of $HOME"


class TestOddLetters:
    @pytest.mark.parametrize("name", ["WEBHOOK_URL", "DELIVERY_URL", "STRIKE_API_URL", "CORS_ORIGINS"])
    @pytest.mark.parametrize(
        ("host", "plain"),
        [
            ("münchen.example", "xn--mnchen-3ya.example"),
            ("straße.example", "xn--strae-oqa.example"),
            ("みんな.example", "xn--q9jyb4c.example"),
        ],
    )
    def test_a_host_is_to_be_written_in_ascii(self, name: str, host: str, plain: str) -> None:
        said = problems(**{name: f"https://{host}/webhook"})

        assert f"write {plain} instead of {host}" in said

    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("https://pay.example/wébhook", "percent-encoded"),
            ("https://pay.example/web hook", "%20"),
            ("https://a..ü/webhook", "must have the name of a host after https://"),
            ("https://☕.example/webhook", "the xn-- form"),
        ],
    )
    def test_another_odd_letter_gets_its_own_advice(self, url: str, words: str) -> None:
        assert words in problems(WEBHOOK_URL=url)

    def test_a_secret_in_an_address_is_not_shown(self) -> None:
        assert "secret" not in problems(DELIVERY_URL="https://me:sécret-secret@shop.example/?token=secret")


class TestMissingFile:
    def test_it_says_where_it_looked_and_how_to_go_on(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError) as refused:
            load_settings({}, tmp_path / ".env")

        (problem,) = refused.value.problems
        assert f"{tmp_path / '.env'}. That file does not exist: copy config/.env.example to it" in problem
        assert "python main.py --sandbox" in problem

    def test_one_that_windows_has_renamed_is_named(self, tmp_path: Path) -> None:
        (tmp_path / ".env.txt").write_text("STRIKE_API_KEY=k")

        with pytest.raises(SettingsError, match=r"\.env\.txt does: rename it"):
            load_settings({}, tmp_path / ".env")

    def test_one_without_the_key_is_named(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text("CURRENCY=eur\n")

        with pytest.raises(SettingsError) as refused:
            load_settings({}, tmp_path / ".env")

        assert f"put it into {tmp_path / '.env'}. To try" in str(refused.value)
        assert "does not exist" not in str(refused.value)
