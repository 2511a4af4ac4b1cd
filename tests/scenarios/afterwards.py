"""What happens after the database was replaced by a copy: the workers continue, and refunds are sent."""

from __future__ import annotations

from lnpay.runtime.worker_passes import expired_pass, main_pass, refund_pass
from tests.owing import drain
from tests.world import World


def work(world: World, hours: float = 3) -> None:
    """Let every worker make its passes over a number of hours."""
    for _ in range(4):
        for one_pass in (main_pass, expired_pass, refund_pass):
            one_pass(world.backend)
        drain(world, hours / 4)
        world.wait(hours * 900)


def finish(world: World) -> None:
    """Remove what blocks the refund, so that it can be sent."""
    world.simulator.config.payout_behaviours = {"*": "complete"}
    drain(world)
