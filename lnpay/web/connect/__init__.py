"""Connecting a shop from its plugin: what it asks for, and the way to the operator who decides."""
