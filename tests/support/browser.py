"""Debian's Chromium without a window: what it makes of a page of any width, in light and dark colours.

Owns how the browser is started, and what is read from the page in it. Where there is none, tests that need it are
skipped.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
PATIENCE_S = 120.0
_SCHEMES = {"dark": "0", "light": "1"}

# A window is 500 pixels wide at least; a frame in it can be as narrow as a phone.
_AROUND = """<!doctype html><meta charset="utf-8"><style>html, body {{ margin: 0; overflow: hidden; }}</style>
<iframe style="border: 0; width: {width_px}px; height: {height_px}px" srcdoc="{document}"></iframe>
<pre id="seen" hidden></pre>
<script>
addEventListener("load", () => setTimeout(() => {{
  const seen = document.querySelector("iframe").contentDocument, root = seen.documentElement;
  {script}
  const coloured = (canvas) => {{
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let n = 0;
    for (let at = 0; at < data.length; at += 4) n += Math.abs(data[at] - data[at + 2]) > 40;
    return n;
  }};
  document.getElementById("seen").textContent = JSON.stringify({{
    ...root.dataset, wide_px: root.scrollWidth, given_px: root.clientWidth, high_px: root.scrollHeight,
    coloured: [...seen.querySelectorAll("figure canvas")].map(coloured),
    paper: getComputedStyle(seen.body).backgroundColor, text: seen.body.innerText, ...window.more,
  }});
}}, 300));
</script>"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a page said of itself, its size, colours and text, the coloured pixels of each plot; and its console.

    Axes and grids are grey: a plot without coloured pixels is an empty one.
    """

    page: dict[str, Any]
    console: list[str]


def look(
    document: str,
    folder: Path,
    *,
    width_px: int,
    scheme: str = "light",
    script: str = "",
    picture: Path | None = None,
    height_px: int = 900,
) -> Seen:
    """Open a document at this width and run `script` on it (`seen`); a picture of it is kept if asked for."""
    around = folder / f"around-{width_px}-{scheme}.html"
    shown = html.escape(document)
    around.write_text(_AROUND.format(width_px=width_px, height_px=height_px, document=shown, script=script), "utf-8")
    ended = _opened(around, folder, scheme, (max(500, width_px), height_px), "--dump-dom")
    if picture is not None:
        _opened(around, folder, scheme, (max(500, width_px), height_px), f"--screenshot={picture}")
    said = re.search(r'<pre id="seen" hidden="">(.*?)</pre>', ended.stdout, re.DOTALL)
    assert said is not None, ended.stderr
    console = [line for line in ended.stderr.splitlines() if "CONSOLE" in line]
    assert said[1], console
    return Seen(json.loads(html.unescape(said[1])), console)


def _opened(page: Path, folder: Path, scheme: str, size_px: tuple[int, int], how: str) -> Any:
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
        f"--user-data-dir={folder / 'browser'}", f"--blink-settings=preferredColorScheme={_SCHEMES[scheme]}",
        f"--window-size={size_px[0]},{size_px[1]}", "--virtual-time-budget=4000", "--enable-logging=stderr",
        how, page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
