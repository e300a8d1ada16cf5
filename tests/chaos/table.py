"""The table of what was done: how often each kind of fault, and in how many seconds a run recovered from it."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from tests.chaos.play import Story


def table(stories: Iterable[Story]) -> str:
    """A line per kind, in Markdown."""
    took: dict[str, list[float]] = {}
    for story in stories:
        for wound in story.wounds:
            took.setdefault(str(wound.fault.kind), []).extend([] if wound.took_s is None else [wound.took_s])
    lines = ["| fault | times | recovered in, median s | max s |", "|---|---|---|---|"]
    for kind, seconds in sorted(took.items()):
        shown = (f"{median(seconds):.1f}", f"{max(seconds):.1f}") if seconds else ("", "")
        lines.append(f"| {kind} | {len(seconds)} | {shown[0]} | {shown[1]} |")
    return "\n".join(lines)
