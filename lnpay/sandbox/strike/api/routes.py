"""How the endpoints of Strike's API are registered, and the arguments that they get."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lnpay.sandbox.strike.api.odata import (
    BadQuery,
    Filter,
    Page,
    Row,
    read_page,
)
from lnpay.sandbox.strike.envelope import ApiError, Body
from lnpay.sandbox.strike.limits import OTHERS
from lnpay.sandbox.web import (
    Reply,
    Request,
    Router,
    read_json_object,
)
from lnpay.sandbox.world import World


class Blocked(Exception):
    """The firewall in front of Strike does not let the request through."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an endpoint: the simulated world, the request and the values in its path."""

    sim: World
    request: Request
    path: Mapping[str, str]

    def body(self) -> Body:
        """The JSON body. Raises ApiError 415 for another type, 400 for no JSON object."""
        raw = self.request.body
        kind = (self.request.header("Content-Type") or "").partition(";")[0].strip().lower()
        if raw and kind != "application/json":
            raise ApiError("UNSUPPORTED_MEDIA_TYPE", status=415)
        try:
            return Body(read_json_object(raw))
        except (json.JSONDecodeError, UnicodeDecodeError, ValueError, RecursionError):
            problem: dict[str, object] = {"code": "INVALID_DATA", "message": "The body is not valid."}
            raise ApiError("INVALID_DATA", validation={"$": [problem]}) from None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The function behind a route, its required scope and its rate limit bucket."""

    handler: Callable[[Call], Reply]
    scope: str
    bucket: str


ROUTER: Router[Endpoint] = Router()

_Function = Callable[[Call], Reply]


def route(method: str, pattern: str, scope: str, bucket: str = OTHERS) -> Callable[[_Function], _Function]:
    """Register an endpoint under /v1."""

    def register(function: _Function) -> _Function:
        ROUTER.add(method, "/v1" + pattern, Endpoint(function, scope, bucket))
        return function

    return register


def list_envelope(
    call: Call, kinds: Mapping[str, str], rows: Iterable[tuple[Row, Any]], to_json: Callable[[Any], Any]
) -> dict[str, Any]:
    """A page of a list. rows: oldest first, what filters see beside the record. Raises Blocked and ApiError."""
    page = _read_page(call, kinds)
    matches = page.filter.matches if page.filter else None
    found = [record for row, record in rows if matches is None or matches(row)]
    if not page.is_ascending:
        found.reverse()
    return counted(call, [to_json(record) for record in found[page.skip : page.skip + page.top]], len(found))


def counted(call: Call, items: list[Any], count: int) -> dict[str, Any]:
    """The envelope of a page, with the number of all rows if Strike tells it."""
    if call.sim.config.is_count_unknown:
        return {"items": items, "count": 0, "isCountUnknown": True}
    return {"items": items, "count": count, "isCountUnknown": False}


def _read_page(call: Call, kinds: Mapping[str, str]) -> Page:
    config = call.sim.config
    if config.filter_policy == "block_all" and "$filter" in call.request.arguments:
        raise Blocked
    try:
        page = read_page(call.request.arguments, kinds)
    except BadQuery as error:
        raise ApiError("INVALID_DATA_QUERY", str(error)) from error
    if page.filter is None:
        return page
    if _is_blocked(page.filter, config.filter_policy):
        raise Blocked
    if page.filter.most_values > 1 and config.multi_value_in == "refuse":
        raise ApiError("INVALID_DATA_QUERY", "The operator 'in' takes one value.")
    return page


def _is_blocked(query: Filter, policy: str) -> bool:
    if policy == "block_or":
        return query.has_or
    return policy == "block_compound" and (query.comparisons > 1 or query.has_date)
