"""The deterministic simulation: one seed is one schedule of everything that can happen. See docs/simulation.md."""
