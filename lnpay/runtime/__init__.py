"""The parts of a process wired together, its threads and worker passes."""
