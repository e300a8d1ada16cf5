"""The table of what was done: how often each kind of fault, and in how many seconds a run recovered from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from statistics import median

from tests.chaos.play import Story


def table(stories: Iterable[Story]) -> str:
    """A line per kind, in Markdown."""
    took: dict[str, list[float | None]] = {}
    wrong: Counter[str] = Counter()
    for story in stories:
        for wound in story.wounds:
            took.setdefault(str(wound.fault.kind), []).append(wound.took_s)
        wrong.update({str(wound.fault.kind) for wound in story.wounds} if story.violations else ())
    lines = ["| fault | times | recovered in, median s | max s | studies gone wrong with it |", "|---|---|---|---|---|"]
    for kind, every in sorted(took.items()):
        seconds = [each for each in every if each is not None]  # the others were the last: their study was complete
        shown = (f"{median(seconds):.1f}", f"{max(seconds):.1f}") if seconds else ("", "")
        lines.append(f"| {kind} | {len(every)} | {shown[0]} | {shown[1]} | {wrong[kind]} |")
    return "\n".join(lines)
