"""Outgoing HTTP, limited in time and size."""
