"""A simulator of everything LNPay talks to: Strike, two rate sources, a shop and a customer's wallet."""

from lnpay.runtime.packages import SANDBOX_PACKAGES, check_packages

check_packages(SANDBOX_PACKAGES)

from lnpay.sandbox.clock import VirtualClock
from lnpay.sandbox.config import SimulatorConfig
from lnpay.sandbox.faults import Fault
from lnpay.sandbox.server import SandboxServer
from lnpay.sandbox.simulator import Simulator
from lnpay.sandbox.strike.invoices import PaymentRefused
from lnpay.sandbox.transport import WsgiAdapter

__all__ = [
    "Fault",
    "PaymentRefused",
    "SandboxServer",
    "Simulator",
    "SimulatorConfig",
    "VirtualClock",
    "WsgiAdapter",
]
