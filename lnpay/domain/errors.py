"""What can go wrong, by what the caller may do next.

LnpayError
├── InvalidRequest           400  the caller must change the request; `errors` names the fields
├── Unauthorized             401  no key, or a wrong one
├── PermissionMissing        403  the key is good, but lacks the right that `permission` names
├── TooManyTries             429  too many wrong passwords or addresses: the next is free after `retry_after_seconds`
├── NotFound                 404
├── Conflict                 409  the request contradicts what is stored
│   └── OrderConflict        409  ... and names the invoice that it contradicts
├── SignatureMismatch        401  refused before anything is parsed
├── RateUnavailable          503  no price that may be used: safe to repeat later
├── StorageUnavailable       503  the database is locked, full or gone: safe to repeat later
├── UnreadableRow            503  what is asked for is a row of the database that cannot be read
├── SchemaTooNew                  the database is not of this version: the start is refused
├── HookUnusable                  the merchant's delivery hook cannot be loaded: the start is refused
├── Stopping                      the process was asked to end; the row in hand is finished
├── ShopRefused                   the shop did not take a delivery: it is called again later
│   └── ShopGone                  ... and does not want to be (410): never called again
└── StrikeError                   has `status`, `code`, `trace_id` of Strike's answer, where there was one
    ├── StrikeRejected       502  Strike said no (4xx): repeating will not help
    ├── StrikeUnavailable    503  nothing was done: safe to repeat later, after `retry_after_seconds`
    └── StrikeAmbiguous      503  sent, but no clear answer: it may or may not have been done
"""

from __future__ import annotations


class LnpayError(Exception):
    """Base of everything this package raises on purpose. `code` is a stable word for programs."""

    code = "internal_error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class InvalidRequest(LnpayError):
    """The request cannot be served as it is. `errors` maps a field to what is wrong with it."""

    code = "invalid_request"

    def __init__(self, message: str, *, errors: dict[str, str] | None = None, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.errors = errors or {}


class Unauthorized(LnpayError):
    """The caller gave no API key, or a wrong one."""

    code = "unauthorized"


class PermissionMissing(LnpayError):
    """The API key lacks a right."""

    code = "permission_missing"

    def __init__(self, permission: str) -> None:
        super().__init__(f"this API key lacks the permission {permission}")
        self.permission = permission


class TooManyTries(LnpayError):
    """Too many wrong passwords, or addresses for one refund."""

    code = "too_many_tries"

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class NotFound(LnpayError):
    """There is nothing of that name here."""

    code = "not_found"


class Conflict(LnpayError):
    """The request contradicts what is stored."""

    code = "conflict"


class OrderConflict(Conflict):
    """An invoice stands in the way of the request.

    state: how the invoice stands, in the words of InvoiceState; None when only Strike has a record of it.
    invoice_id, correlation_id: its names at Strike and in the shop. token: of its payment page, if it has one.
    """

    def __init__(
        self, message: str, *, code: str, state: str | None, invoice_id: str, correlation_id: str, token: str | None
    ) -> None:
        super().__init__(message, code=code)
        self.state = state
        self.invoice_id = invoice_id
        self.correlation_id = correlation_id
        self.token = token


class SignatureMismatch(LnpayError):
    """The bytes were not signed with our secret."""

    code = "signature_mismatch"


class RateUnavailable(LnpayError):
    """No price is known that may be used."""

    code = "rate_unavailable"

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class StorageUnavailable(LnpayError):
    """The database could not do its part; nothing of the transaction was kept."""

    code = "storage_unavailable"


class UnreadableRow(LnpayError):
    """A row of the database holds what LNPay never writes; the operator repairs it. The message names the row."""

    code = "unreadable_row"


class SchemaTooNew(LnpayError):
    """The tables are not those of this version: most often a newer LNPay has made them."""

    code = "schema_too_new"


class HookUnusable(LnpayError):
    """The merchant's delivery hook cannot be loaded. The message names the file and the line."""

    code = "hook_unusable"


class Stopping(LnpayError):
    """The process was asked to end and the row in hand is finished; the next pass goes on from there."""

    code = "stopping"


class ShopRefused(LnpayError):
    """The shop did not take the delivery; it will be called again."""

    code = "shop_refused"


class ShopGone(ShopRefused):
    """The shop answered 410: it does not want this delivery, ever."""

    code = "shop_gone"


class StrikeError(LnpayError):
    """A call to Strike did not give what it should."""

    code = "provider_error"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        strike_code: str | None = None,
        trace_id: str | None = None,
        values: dict[str, object] | None = None,
        invalid_fields: frozenset[str] = frozenset(),
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.strike_code = strike_code
        self.trace_id = trace_id
        self.values = values or {}
        self.invalid_fields = invalid_fields
        self.retry_after_seconds = retry_after_seconds


class StrikeRejected(StrikeError):
    """Strike understood and said no; the same call will be refused again."""

    code = "provider_rejected"


class StrikeUnavailable(StrikeError):
    """Nothing was done: Strike was not reached, is down before doing anything, or asks to wait."""

    code = "provider_unavailable"


class StrikeAmbiguous(StrikeError):
    """The request was sent and the answer is missing or invalid; only asking again can tell what happened."""

    code = "provider_unavailable"
