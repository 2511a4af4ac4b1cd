"""The deterministic simulation: a seed determines everything that happens, and when. See docs/simulation.md."""
