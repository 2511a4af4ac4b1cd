"""The demo shop's calls to LNPay, over HTTP like any other shop's."""

from __future__ import annotations

from typing import Any

import requests

from lnpay.sandbox.world import World

BACKEND_TIMEOUT_SECONDS = 20
STANDING_TIMEOUT_SECONDS = 3
"""Short, because the page of an order polls again soon."""


class BackendFailed(Exception):
    """LNPay refused or did not answer the shop's request; the message says why."""


def ask_backend(
    simulator: World,
    method: str,
    path: str,
    body: object = None,
    *,
    scheme: str = "Bearer",
    timeout_seconds: float = BACKEND_TIMEOUT_SECONDS,
) -> tuple[int, Any]:
    """The status and the JSON of LNPay's answer. Raises BackendFailed where there is none.

    scheme: how the shop's key is sent: "Bearer", or "token" as plugins do.
    """
    config = simulator.config
    headers = {"Authorization": f"{scheme} {config.backend_api_key}"} if config.backend_api_key else {}
    try:
        with simulator.new_shop_session() as session:
            answer = session.request(
                method, f"{config.backend_url}{path}", json=body, headers=headers, timeout=timeout_seconds
            )
            return answer.status_code, answer.json()
    except requests.JSONDecodeError as error:
        raise BackendFailed(f"LNPay at {config.backend_url} answered something other than JSON.") from error
    except requests.RequestException as error:
        raise BackendFailed(f"LNPay at {config.backend_url} does not answer. Is it running?") from error
