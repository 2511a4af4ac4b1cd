"""Measurements of this machine, each compared with a floor measured in the same run: python -m bench [name ...]."""
