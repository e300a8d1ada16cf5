"""Measurements: scripts that print and record figures; nothing here decides whether the program works."""
