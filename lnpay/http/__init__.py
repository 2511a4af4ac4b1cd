"""Outgoing HTTP: one client with a bound in time and size."""
