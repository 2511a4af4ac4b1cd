"""LNPay's real processes for a whole day that passes in minutes, while each of their clocks is hours off."""
