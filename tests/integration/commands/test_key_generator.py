"""key_generator.py, run as people run it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import key_generator
from lnpay.domain.webhook_signature import decode_delivery_secret

SCRIPT = Path(key_generator.__file__)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, timeout=30, check=False)


def test_it_prints_one_secret_and_nothing_else() -> None:
    result = run()

    assert result.returncode == 0
    assert re.fullmatch(r"[A-Za-z0-9]{32}\n", result.stdout)
    assert result.stderr == ""


@pytest.mark.parametrize("length", ["10", "33", "50"])
def test_it_prints_as_many_characters_as_asked(length: str) -> None:
    assert len(run(length).stdout.strip()) == int(length)


def test_a_length_strike_would_refuse_is_refused() -> None:
    result = run("9")

    assert result.returncode == 2
    assert result.stdout == ""
    assert "10 to 50 characters" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("length", ["9", "51", "0", "-10", "1e1", "ten", "", "１２", "9" * 5000])
def test_only_whole_numbers_from_10_to_50_are_lengths(length: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        key_generator.main(["--", length])

    assert stop.value.code == 2
    assert "10 to 50 characters" in capsys.readouterr().err


def test_a_delivery_secret_is_one_that_deliveries_can_be_signed_with() -> None:
    result = run("--delivery")

    assert result.returncode == 0
    assert len(decode_delivery_secret(result.stdout.strip())) == 32


def test_a_delivery_secret_has_no_length_to_choose() -> None:
    result = run("--delivery", "20")

    assert result.returncode == 2
    assert "not allowed with" in result.stderr


def test_help_names_the_limits() -> None:
    result = run("--help")

    assert result.returncode == 0
    assert "10 to 50" in result.stdout


def test_main_prints_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    key_generator.main(["12"])
    key_generator.main(["--delivery"])

    plain, delivery = capsys.readouterr().out.split()
    assert len(plain) == 12
    assert delivery.startswith("whsec_")


def test_two_secrets_differ_and_use_the_whole_alphabet() -> None:
    drawn = [key_generator.random_secret(50) for _ in range(200)]

    assert len(set(drawn)) == 200
    assert len(set("".join(drawn))) == 62
