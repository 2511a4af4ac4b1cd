"""Runs LNPay's real processes for a simulated day that passes in minutes, while each of their clocks is hours off."""
