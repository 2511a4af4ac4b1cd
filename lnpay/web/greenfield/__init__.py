"""The part of BTCPay Server's API (Greenfield) that its shop plugins need to sell over Lightning.

GREENFIELD=off disables it. Every call except `GET /api/v1/health` needs a key, even if native routes are open.
"""

from lnpay.web.greenfield.setup import set_up_greenfield

__all__ = ["set_up_greenfield"]
