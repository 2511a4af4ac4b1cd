"""The name by which this machine's workers are distinguished."""

from __future__ import annotations

import socket

import pytest

from lnpay.runtime.host import find_host

POSTGRESQL = "postgresql+psycopg://lnpay@db/lnpay"


def test_it_is_the_name_that_the_machine_gives_itself() -> None:
    assert find_host(POSTGRESQL, lambda: "web-1.example.com") == "web-1.example.com"
    assert find_host(POSTGRESQL) in {"", find_host(POSTGRESQL, socket.gethostname)}


def test_with_sqlite_there_is_one_machine_and_no_name() -> None:
    assert find_host("sqlite:////srv/lnpay/invoices.sqlite", lambda: "web-1") == ""


@pytest.mark.parametrize(
    ("name", "host"),
    [("3f2a9c01bd77", ""), ("Anna's Büro\n", "Anna-s-B-ro-"), ("x" * 100, "x" * 64), ("", "")],
    ids=["container", "letters", "long", "none"],
)
def test_a_name_that_says_nothing_or_cannot_be_shown(name: str, host: str) -> None:
    assert find_host(POSTGRESQL, lambda: name) == host
