"""The API that shop plugins of BTCPay Server speak (Greenfield), as far as they need it to sell over Lightning.

GREENFIELD=off leaves it out. Every call but `GET /api/v1/health` needs a key, also where native routes are open.
"""

from lnpay.web.greenfield.setup import set_up_greenfield

__all__ = ["set_up_greenfield"]
