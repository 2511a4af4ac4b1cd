"""Inspecting, backing up, copying and migrating a database."""
