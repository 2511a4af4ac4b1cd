"""The operator's page: what needs a person, every invoice and its history, and the buttons that help.

There is no such page unless ADMIN_PASSWORD is set. It works without JavaScript: forms, and a redirect after each.
"""

from lnpay.web.admin.setup import set_up_admin

__all__ = ["set_up_admin"]
