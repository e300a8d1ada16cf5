"""What YAML has beyond JSON, as tokens for a tree of a manifest, and as lines of its text."""

from __future__ import annotations

import random

import yaml

from tests.mutations import octets, trees

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)
TOKENS = [
    *trees.HOSTILE, "*a", "&a [*a]", "&a x", "!!binary x", "!!python/object/apply:os.system [x]", "!!float x",
    "!!int 9e9", "!!set {a}", "!!omap [a: 1]", "!!timestamp 99", "!!null x", "!!bool x", "!!str 1", "!x y",
    "2001-99-99",
    "2001-01-01", "0o777", "0777", "1:2:3", "1:99:99", "~", ".nan", ".inf", "<<", "{<<: 1}", "{<<: {a: 1}}",
    "{? [1, 2] : 3}", "{1: 2, true: 3, null: 4, 1.5: 6}", "{a: 1, a: 2}", "0b1", "1_000", "=", "yes", "on",
    "-1", "100m", "9Ei", "1e3", "1n", "500Gi", "0x1F", "@a", "`a", "%a", "|", ">-", "# x", "- - x",
]  # fmt: skip


def changed(rng: random.Random, content: bytes) -> bytes:
    """Return a manifest with some changes, by its grammar or by its lines."""
    way = rng.random()
    if way < 0.6:
        documents = [trees.tree_of(each) for each in yaml.safe_load_all(content)]
        for _ in range(rng.choice([1, 1, 2, 4])):
            at = rng.randrange(len(documents))
            documents[at] = trees.changed(rng, documents[at], TOKENS)
        return "\n---\n".join(map(trees.written, documents)).encode(errors="surrogatepass")
    if way < 0.9:
        return _lines(rng, content)
    if way < 0.92:
        return content + rng.choice([b"---\n", b""]) + BOMB.encode()
    return octets.changed(rng, content)


def _lines(rng: random.Random, content: bytes) -> bytes:
    lines = content.decode().splitlines()
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(len(lines))
        key, colon, _value = lines[at].partition(":")
        lines[at : at + 1] = rng.choice(
            [[], [lines[at]] * 2, ["  " + lines[at]], [lines[at][1:]], ["\t" + lines[at]], [lines[at], "---"],
             [f"{key}{colon} {rng.choice(TOKENS)}"], [f"{key}{colon} {rng.choice(TOKENS)}"], [f"? {lines[at]}"],
             [lines[at] + " *a"], [lines[at], rng.choice(lines)]]
        )  # fmt: skip
        lines = lines or [""]
    return "\n".join(lines).encode(errors="surrogatepass")
