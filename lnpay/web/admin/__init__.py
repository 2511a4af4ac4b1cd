"""The operator's pages: what needs attention, every invoice and its history, and the buttons that resolve problems.

They exist only if ADMIN_PASSWORD is set. They work without JavaScript: forms, and a redirect after each.
"""

from lnpay.web.admin.setup import set_up_admin

__all__ = ["set_up_admin"]
