"""Command lines: every command with every option, as click declares them, and values that fit or do not.

Owns what may be typed. Nothing that is drawn here starts Ray or looks for a cluster elsewhere than at a closed port.
"""

from __future__ import annotations

import random

import click

from modelops_ray.cli import main

CLOSED = "127.0.0.1:1"
NUMBERS = [
    "0", "1", "-1", "2", "1.5", "nan", "inf", "-inf", "1e400", "1e-400", "9" * 400, "9" * 5000, "\u0663", "1_0",
    "\u00b2",
    "0x10", "1\n", "", " ", "-0", "1e3", "true", "None", "\udcff", "2147483648", "18446744073709551616", "--", "1,5",
]  # fmt: skip
TEXTS = [
    "", "\n", "a\nb", "\x1b[31m", "\udcff", "\udc80x", "x" * 5000, "../" * 2000, "/dev/null", "/dev/null/x", ".",
    " ", "-",
    "--", "---", "\u202ex", "[/]", "[red]", "nowhere", "run", "split", "study.json", "model.py", "overlay", "=",
    "=x", "%s",
    "~nobody-such/x", "ftp://x", "s3://", "az:///", "file:///dev/null", "http://", "http://[::1", "http://127.0.0.1:x",
    "http://127.0.0.1:99999", "ray://x", "a:b:c", ":", "model.py:", ":simulate", "model.py:simulate:x",
    "model.py:params",
    "os.path:join", "builtins:print", "model.py:__doc__", "/proc/self/mem", "/proc/self/environ", "cache", "kubeconfig",
    "run/run.json", "run/simulations", "run/_commits/000001.json", "1/2", "3/2", "0/0", "9" * 400 + "/1", "sha256:x",
    "table.parquet", "table.csv", "table.arrow", ".csv", "run/x.csv", "nowhere/x.csv", "\u00e9.json", "4Gi", "1e3Gi",
    "5%",
    "nan%", "0:", ":", "0:9999999999", "-1:2", "2:1", "beta<", "beta<<1", "(" * 5000, "beta=1 and " * 2000, "x=1:0",
    "beta=nan:inf", "beta=0:1e308", "=0:1", "beta=", "beta=1," + "1," * 5000, "sets.csv", "sets.parquet", "sets.json",
     "\u0663Gi", "9" * 400 + "Gi", "9" * 400 + "%", "1.Gi", "doubled", "attempts", "simulations", "{}", "a=b",
    "\t",
]  # fmt: skip
FITTING = {
    "study": ["study.json", "study.json", "model.py:simulate"], "params": ["sets.csv", "sets.parquet", "sets.arrow"],
    "sets": ["0:1", "1:2"], "where": ["beta<0.5", "n=3 and place='x'"], "grid": ["beta=0.1,0.2", "n=1,2"],
    "lhs": ["beta=0:1", "n=1:9"], "sobol": ["gamma=0.5:1", "beta=0:1"], "folder": ["run", "."], "task_id": ["x"],
    "run_dir": ["run", "split"], "paths": ["manifest.yaml", "overlay", "-"], "job": ["x"],
    "name": ["x"], "model": ["model.py:simulate"], "to": ["out.csv", "out.parquet", "out.arrow"], "output": ["doubled"],
    "memory": ["64Mi"], "max_memory": ["1Gi"], "limit_memory": ["2Gi"], "max_failures": ["5%", "3"], "shard": ["1/2"],
    "overlay": ["overlay", "kind", "azure"], "image": ["here/it:1"], "out": ["made"], "backend": ["local"],
    "isolation": ["none"], "study_path": ["/studies/study.json"], "install": ["x==1"],
}  # fmt: skip
# They start processes, wait for what does not come, or show what only developers look at.
NEVER = {"debug", "follow", "check_leaks"}
STARTING = {"fork", "reuse", "fresh", "ray", "auto"}


def leaves(group: click.Group = main, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    """Every command by the words that call it."""
    found: dict[tuple[str, ...], click.Command] = {}
    for name, command in group.commands.items():
        words = (*path, name)
        found |= leaves(command, words) if isinstance(command, click.Group) else {words: command}
    return found


def command_line(rng: random.Random) -> tuple[str, ...]:
    """Draw a command line."""
    words, command = rng.choice(sorted(leaves().items()))
    values, options = [], []
    share_wrong = rng.choice([0.0, 0.1, 0.5])
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            values += _argument(rng, parameter, share_wrong)
        elif isinstance(parameter, click.Option) and parameter.name not in NEVER and rng.random() < 0.2:
            options.append(_option(rng, parameter, share_wrong))
    rng.shuffle(options)
    flat = [text for option in options for text in option]
    line = [*words, *values, *flat] if rng.random() < 0.8 else [*words, *flat, *values]
    if rng.random() < 0.15:
        line = _mangled(rng, line)
    return contained(words, tuple(line))


def contained(words: tuple[str, ...], line: tuple[str, ...]) -> tuple[str, ...]:
    """Add what keeps a command line from starting Ray, processes, or looking for a cluster elsewhere."""
    safe = tuple(text for text in line if text not in STARTING)
    more = ()
    if words[0] in {"run", "profile", "plan"}:
        more = ("--backend", "local")
    if words[0] in {"run", "profile"} and "--isolation" not in safe:
        more += ("--isolation", "none")
    if words[0] in {"submit", "jobs"} and "--address" not in safe:
        more += ("--address", f"http://{CLOSED}")
    return safe + more


def _argument(rng: random.Random, parameter: click.Argument, share_wrong: float) -> list[str]:
    if rng.random() < share_wrong / 3:
        return []
    n = rng.choice([1, 1, 2]) if parameter.nargs == -1 or rng.random() < share_wrong / 5 else 1
    return [_text(rng, parameter, share_wrong) for _ in range(n)]


def _option(rng: random.Random, parameter: click.Option, share_wrong: float) -> list[str]:
    name = rng.choice(parameter.opts)
    if rng.random() < share_wrong / 10:
        name = rng.choice([name[:-1], name + "x", name.upper(), name.replace("--", "-"), name + "="])
    if parameter.is_flag:
        return [name] * rng.choice([1, 1, 1, 2]) if rng.random() > share_wrong / 5 else [f"{name}=1"]
    value = _text(rng, parameter, share_wrong)
    given = [name, value] if rng.random() < 0.7 or not name.startswith("--") else [f"{name}={value}"]
    return given * rng.choice([1, 1, 1, 2])


def _text(rng: random.Random, parameter: click.Parameter, share_wrong: float) -> str:
    """A value that fits, or one that does not."""
    is_number = parameter.type.name.startswith(("integer", "float"))
    if rng.random() < share_wrong:
        return rng.choice(NUMBERS if is_number and rng.random() < 0.8 else TEXTS)
    if parameter.name == "address":
        return rng.choice([CLOSED, f"http://{CLOSED}"])
    if isinstance(parameter.type, click.Choice):
        return rng.choice([str(each) for each in parameter.type.choices if each not in STARTING] or ["local"])
    return rng.choice(FITTING.get(str(parameter.name), ["1", "2"]))


def _mangled(rng: random.Random, line: list[str]) -> list[str]:
    at = rng.randrange(len(line))
    return rng.choice(
        [line[:at], line[at:], line[:at] + line[at + 1 :], [*line[:at], rng.choice(TEXTS), *line[at:]], line + line,
         [*line[:at], "--help", *line[at:]], [*line[:at], "--", *line[at:]], [], ["--version", *line]]
    )  # fmt: skip
