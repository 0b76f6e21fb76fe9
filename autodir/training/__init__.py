"""Training of every part, each file from data to step, top to bottom."""
