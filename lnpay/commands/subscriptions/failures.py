"""Why a call to Strike failed, and what to do about it."""

from __future__ import annotations

from lnpay.domain.errors import LnpayError, StrikeAmbiguous, StrikeError, StrikeUnavailable

SCOPE = "partner.webhooks.manage"

UNKNOWN = "Strike has no subscription with this id: `python webhook_settings.py list` shows them."
_UNFIT = (
    "Strike rejects these values: the address must be https and reachable from outside, WEBHOOK_SECRET must have "
    "10 to 50 characters, and an account has at most 50 subscriptions."
)
_BY_STATUS = {
    400: _UNFIT,
    401: "Strike rejects STRIKE_API_KEY: put a key from https://dashboard.strike.me into config/.env.",
    404: UNKNOWN,
    422: _UNFIT,
}


def explain(error: LnpayError) -> str:
    """A sentence for the operator: what went wrong, and what to do about it."""
    if not isinstance(error, StrikeError):
        return error.message
    if isinstance(error, StrikeUnavailable):
        wait = f" in {error.retry_after_seconds} seconds" if error.retry_after_seconds else " later"
        return f"{error.message}: nothing was changed. Try again{wait}."
    if isinstance(error, StrikeAmbiguous):
        return f"{error.message}: it may or may not have been done. `list` shows it; `subscribe` may be repeated."
    return _explain_refusal(error)


def _explain_refusal(error: StrikeError) -> str:
    if error.status == 403 and error.strike_code is None:
        return "Strike's edge proxy refused the call (403 without a reason): try again later, or from another network."
    if error.status == 403:
        return f"The API key may not manage webhooks: create one at https://dashboard.strike.me with the scope {SCOPE}."
    sentence = _BY_STATUS.get(error.status or 0, f"{error.message}.")
    return f"{sentence} (Strike's trace id: {error.trace_id})" if error.trace_id and error.status != 404 else sentence
