"""Connecting a shop from its plugin: the request for a key, and the redirect to the operator."""
