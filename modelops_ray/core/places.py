"""Where in a model's own code something happened, read from the text of a traceback or of a dumped stack.

Owns which frames are the modeller's: below the folder that the model lies in, and neither Python's nor installed.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

_BLOCK = re.compile(r"^.*\(most recent call (?:last|first)\):$", re.MULTILINE)
_FRAME = re.compile(r'^[\s|]*File "([^"\n]+)", line (\d+)(?:,? in (.+))?$', re.MULTILINE)
_LIBRARY = re.compile(
    r"(?:^|/)(?:site-packages|dist-packages|lib(?:64)?/python\d[\d.]*|python\d+\.zip)/|/_?modelops_ray/(?!examples/)"
    r"|^<(?!stdin>|ipython-input)|\.(?:pyx|pxd|pxi)$"
)
_INSTALLED = re.compile(r".*/(?:site|dist)-packages/")


class Place(NamedTuple):
    """A line of a model's file; `function` is "" where it is in none."""

    path: str
    line: int
    function: str = ""

    def __str__(self) -> str:
        return f"{self.path.rpartition('/')[2]} line {self.line}"


def place_of(text: str | None, model_label: str) -> Place | None:
    """Find the innermost frame that is the modeller's; None where the text has none.

    `model_label` is `sir.py:simulate` or `package.module:simulate`. Of exceptions that led to each other, and of
    threads, the last that has such a frame counts.
    """
    blocks = _blocks(text or "")
    module = model_label.partition(":")[0]
    root = next((found for block in blocks for frame in block if (found := _root(frame.path, module))), "")
    for is_own in (lambda path: path.startswith(root), lambda _path: True):
        for block in reversed(blocks):
            own = [frame for frame in block if not _is_library(frame.path, root) and is_own(frame.path)]
            if own:
                return own[-1]
    return None


def _blocks(text: str) -> list[list[Place]]:
    """The frames of each traceback in a text, the innermost last; one where the beginning was cut off."""
    starts = [(match.end(), "call first" in match[0]) for match in _BLOCK.finditer(text)]
    if not starts:
        starts = [(0, False)]
    blocks = []
    for (start, is_reversed), (end, _) in pairwise([*starts, (len(text), False)]):
        frames = [Place(path, int(line), name or "") for path, line, name in _FRAME.findall(text, start, end)]
        blocks.append(frames[::-1] if is_reversed else frames)
    return blocks


def _root(path: str, module: str) -> str:
    """The folder that a model lies in, with `/` at its end, where this is its file; "" where it is not."""
    if module.endswith(".py"):
        folder, _, name = path.rpartition("/")
        return f"{folder}/" if name == module else ""
    parts = module.replace(".", "/")
    for ending in (f"/{parts}.py", f"/{parts}/__init__.py"):
        if path.endswith(ending):
            folder = path.removesuffix(ending) + "/"
            return folder + parts.partition("/")[0] if _INSTALLED.fullmatch(folder) else folder
    return ""


def _is_library(path: str, root: str) -> bool:
    """Whether a file is Python's or installed; a model may be installed itself, and be started from anywhere."""
    return _LIBRARY.search(path.removeprefix(root) if root else path) is not None
