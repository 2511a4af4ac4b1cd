"""The exception hierarchy, organised by what the caller may do next.

Each class defines its HTTP answer: its status, its `code`, and whether its message is public. A
subclass inherits all three. The web layer and the API document read them here.
"""

from __future__ import annotations

from collections.abc import Iterator


class LnpayError(Exception):
    """Base class of every error that LNPay raises deliberately.

    http_status: None if no route should raise it; if one does, that is a bug, answered with a 500. code: a stable
    identifier for programs. public_message: replaces the message in answers; None if the message itself is public.
    retry_after_seconds: when to try again, if that is known.
    """

    http_status: int | None = None
    code = "internal_error"
    public_message: str | None = None
    retry_after_seconds: int | None = None

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class InvalidRequest(LnpayError):
    """The request cannot be served as it is. `errors` maps a field to what is wrong with it."""

    http_status = 400
    code = "invalid_request"

    def __init__(self, message: str, *, errors: dict[str, str] | None = None, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.errors = errors or {}


class Unauthorized(LnpayError):
    """The caller gave no API key, or a wrong one."""

    http_status = 401
    code = "unauthorized"


class PermissionMissing(LnpayError):
    """The API key lacks a permission."""

    http_status = 403
    code = "permission_missing"

    def __init__(self, permission: str) -> None:
        super().__init__(f"this API key lacks the permission {permission}")
        self.permission = permission


class TooManyTries(LnpayError):
    """Too many wrong passwords, or addresses for one refund."""

    http_status = 429
    code = "too_many_tries"
    retry_after_seconds: int

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class NotFound(LnpayError):
    """Nothing with that id exists."""

    http_status = 404
    code = "not_found"


NO_SUCH_INVOICE = "there is no invoice with this id: use the invoiceId from the answer to /generate-invoice"


class Conflict(LnpayError):
    """The request contradicts what is stored."""

    http_status = 409
    code = "conflict"


class RefundExceedsReceived(Conflict):
    """More would be refunded for an invoice than was received for it."""

    code = "refund_exceeds_received"


class IdempotencyKeyReused(Conflict):
    """The Idempotency-Key belongs to an earlier, different request."""

    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__("this Idempotency-Key was used for a different request: repeat that request, or use a new key")


class OrderConflict(Conflict):
    """An existing invoice conflicts with the request.

    state: of that invoice, a value of InvoiceState; None if only Strike has a record of it.
    invoice_id, correlation_id: its ids at Strike and in the shop. token: of its payment page, if it has one.
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
    """The body is not signed with our secret."""

    http_status = 401
    code = "signature_mismatch"


class RateUnavailable(LnpayError):
    """No usable price is known."""

    http_status = 503
    code = "rate_unavailable"
    retry_after_seconds: int

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class StorageUnavailable(LnpayError):
    """The database failed. The transaction was rolled back, unless only the answer to its COMMIT was lost: then it was
    committed. A caller that retries must therefore read first.
    """

    http_status = 503
    code = "storage_unavailable"


class UnreadableRow(LnpayError):
    """A database row contains something that LNPay never writes; the operator must repair it. The message names the
    row.
    """

    http_status = 503
    code = "unreadable_row"
    public_message = "this record cannot be read; the operator finds the reason in the log"


class SchemaTooNew(LnpayError):
    """The tables belong to another version of LNPay, usually a newer one."""

    code = "schema_too_new"


class HookUnusable(LnpayError):
    """The merchant's delivery hook cannot be loaded. The message names the file and the line."""

    code = "hook_unusable"


class Stopping(LnpayError):
    """The process is stopping and has finished the current row; the next pass continues from there."""

    code = "stopping"


class ShopRefused(LnpayError):
    """The shop did not accept the delivery; it is retried."""

    code = "shop_refused"


class ShopGone(ShopRefused):
    """The shop answered 410: the delivery is never retried."""

    code = "shop_gone"


class StrikeError(LnpayError):
    """A call to Strike failed."""

    http_status = 503
    code = "provider_unavailable"
    public_message = "the payment provider did not answer clearly; repeat the same request"

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
    """Strike refused the call; repeating it will not help."""

    http_status = 502
    code = "provider_rejected"
    public_message = "the payment provider refused the request; the operator finds the reason in the log"


class StrikeUnavailable(StrikeError):
    """Nothing was done: Strike was not reached, failed before acting, or asked us to wait. Safe to repeat."""

    http_status = 503
    code = "provider_unavailable"
    public_message = "the payment provider is not available right now; repeat the request later"


class StrikeUnanswered(StrikeUnavailable):
    """A read request reached Strike, but its answer did not arrive in full. Other reads may succeed."""


class StrikeAmbiguous(StrikeError):
    """The request was sent but the answer is missing or invalid: it may have taken effect. Reconciliation decides."""


def kinds_of(kind: type[LnpayError] = LnpayError) -> Iterator[type[LnpayError]]:
    """`kind` and all its subclasses."""
    yield kind
    for one in kind.__subclasses__():
        yield from kinds_of(one)
