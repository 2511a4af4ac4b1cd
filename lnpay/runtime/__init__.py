"""The parts of a process, wired together, and what it does."""
