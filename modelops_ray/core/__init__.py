"""Decisions: pure functions from events to actions, without clock, randomness, I/O or third-party code."""
