"""Identifying the client of a request, also behind a proxy; no client can pose as another."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import requests
from flask import Request
from werkzeug.test import EnvironBuilder

from lnpay.web.clients import client_address
from tests.web.live_server import serving
from tests.world import World

HERE = ("127.0.0.0/8", "::1/128")
PASSWORD = "the-operators-password"


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.5", None, "203.0.113.5"),
        ("203.0.113.5", "198.51.100.1", "203.0.113.5"),
        ("127.0.0.1", None, "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("::1", "2001:db8::7", "2001:db8::7"),
        ("::ffff:127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "10.9.9.9, 198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "198.51.100.1, 127.0.0.1", "198.51.100.1"),
        ("127.0.0.1", "127.0.0.1, 127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1, nonsense", "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("", "198.51.100.1", ""),
    ],
)
def test_only_a_trusted_proxy_names_the_client(peer: str, forwarded: str | None, client: str) -> None:
    headers = [] if forwarded is None else [("X-Forwarded-For", forwarded)]
    environ = EnvironBuilder(headers=headers, environ_base={"REMOTE_ADDR": peer}).get_environ()

    assert client_address(Request(environ), HERE) == client


def test_behind_our_proxy_a_flood_of_one_client_blocks_no_other(make_world: Callable[..., World]) -> None:
    with serving(make_world(admin_password=PASSWORD)) as live:

        def log_in(client: str, password: str) -> int:
            headers = {"X-Forwarded-For": client}
            url = f"{live.url}/admin/login"
            form = {"password": password}
            return requests.post(url, data=form, headers=headers, timeout=10, allow_redirects=False).status_code

        answers = [log_in("203.0.113.66", "wrong") for _ in range(60)]

        assert answers == [401] * 5 + [429] * 55
        assert log_in("198.51.100.7", PASSWORD) == 303


def test_without_trust_the_header_changes_nothing(make_world: Callable[..., World]) -> None:
    world = make_world(admin_password=PASSWORD, trusted_proxies=())

    answers = [
        world.client.post(
            "/admin/login", data={"password": "wrong"}, headers={"X-Forwarded-For": f"203.0.113.{number}"}
        ).status_code
        for number in range(6)
    ]

    assert answers == [401] * 5 + [429]
