"""Queries that only read: for pages, figures and reports."""
