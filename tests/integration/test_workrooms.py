"""Each simulation works in a folder of its own, with the model's files in it: at every level, programs included."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from support.models import chunk_of, context_of, write
from support.studies import wait_until

from modelops_ray.runner import learned, server_start
from modelops_ray.runner.chunk import run_chunk

MODEL = '''
"""Each simulation does what its number says, with its seed."""

import os
import pathlib
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

AT_IMPORT = Path("in.csv").read_text()


def written(path, seed):
    with open(path, "w") as file:
        file.write(str(seed))
    time.sleep(0.002)
    with open(path) as file:
        return file.read()


def beside(seed):
    shown = subprocess.run(["cat", "../beside/pop.csv"], capture_output=True, text=True, check=True).stdout
    return Path("../beside/pop.csv").read_text() + shown + os.path.basename(os.getcwd())


def folder(seed):
    os.makedirs("out/deep", exist_ok=True)
    return written("out/deep/run.csv", seed)


def appended(seed):
    with open("in.csv", "a") as file:
        file.write(str(seed))
    return Path("in.csv").read_text()


def in_place(seed):
    with open("in.csv", "r+") as file:
        file.write(str(seed % 10))
    return Path("in.csv").read_text()


def renamed(seed):
    written("new.csv", seed)
    os.replace("new.csv", "in.csv")
    return Path("in.csv").read_text()


def removed(seed):
    os.remove("in.csv")
    return str(Path("in.csv").exists())


def system(seed):
    os.system(f"echo {seed} > in.csv")
    os.system(f"echo {seed} >> data/x.csv")
    return Path("in.csv").read_text() + Path("data/x.csv").read_text()


def program(seed):
    code = f"open('data/x.csv', 'a').write('{seed}'); print(open('in.csv').read(), end='')"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return told + Path("data/x.csv").read_text()


def forks(seed):
    pid = os.fork()
    if pid == 0:
        written("in.csv", seed)
        os._exit(0)
    os.waitpid(pid, 0)
    return Path("in.csv").read_text()


def database(seed):
    with sqlite3.connect("pop.sqlite") as one:
        one.execute("insert into pop values (?)", (seed,))
    found = str(one.execute("select n from pop").fetchall())
    one.close()
    return found


def arrays(seed):
    import numpy as np
    np.save("in.npy", np.array([seed]))
    np.savetxt("in.csv", [seed])
    return str(np.load("in.npy")) + Path("in.csv").read_text()


def library(seed):
    import pyarrow as pa
    from pyarrow import parquet
    parquet.write_table(pa.table({"x": [seed]}), "old.parquet")
    return str(parquet.ParquetFile("old.parquet").read().to_pylist())


def through_dots(seed):
    return written("data/../in.csv", seed) + Path("in.csv").read_text()


def below(seed):
    os.chdir("data")
    return written("x.csv", seed) + written("../in.csv", seed)


def emptied(seed):
    shutil.rmtree("data")
    os.mkdir("data")
    written("data/y.csv", seed)
    return str(os.listdir("data"))


def made_anew(seed):
    os.unlink("in.csv")
    Path("in.csv").symlink_to("data/x.csv")
    return written("in.csv", seed) + Path("data/x.csv").read_text()


def temporary(seed):
    with tempfile.NamedTemporaryFile("w", dir=".", suffix=".csv") as file:
        file.write("x")
    return written(Path(tempfile.gettempdir()) / f"{os.getpid()}.csv", seed)


def gone(seed):
    shutil.rmtree(os.getcwd(), ignore_errors=True)
    return "gone"


def reads(seed):
    found = sorted(str(path) for path in Path(".").rglob("*.csv"))
    walked = sorted(name for _, _, names in os.walk(".") for name in names if name.endswith(".csv"))
    return f"{found} {walked} {Path('data/x.csv').read_text()} {Path('data/deep/y.csv').read_text()}"


def where(seed):
    return str([os.path.exists("out.csv"), os.getcwd() == str(Path(__file__).parent), AT_IMPORT])


DOES = {
    "write": lambda seed: written("out.csv", seed), "over": lambda seed: written("in.csv", seed),
    "bytes": lambda seed: written(b"out.csv", seed), "absolute": lambda seed: written(os.path.abspath("in.csv"), seed),
    "folder": folder, "append": appended, "in place": in_place, "rename": renamed, "remove": removed,
    "system": system, "program": program, "fork": forks, "database": database, "arrays": arrays, "library": library,
    "dots": through_dots, "below": below, "rmtree": emptied, "symlink": made_anew, "temporary": temporary,
    "gone": gone, "reads": reads, "where": where, "beside": beside,
    "copy": lambda seed: shutil.copy("in.csv", "data/z.csv") and Path("data/z.csv").read_text(),
    "elsewhere": lambda seed: written(os.environ["SHARED"], seed)[:0],
    "named": lambda seed: tempfile.NamedTemporaryFile().write(b"x") and "",
}  # fmt: skip


def simulate(params, seed):
    return {"r": {"x": DOES[params["how"]](seed)}}
'''
EXPECTED = {
    "write": "{}", "over": "{}", "bytes": "{}", "absolute": "{}", "folder": "{}", "append": "in{}",
    "in place": "{last}n", "rename": "{}", "remove": "False", "system": "{}\ndata{}\n", "program": "indata{}",
    "fork": "{}",
    "database": "[(7,), ({},)]", "arrays": "[{}]{float}\n", "library": "[{{'x': {}}}]", "dots": "{}{}",
    "below": "{}{}", "rmtree": "['y.csv']", "symlink": "{}{}", "temporary": "{}", "gone": "gone",
    "reads": "['data/deep/y.csv', 'data/x.csv', 'in.csv'] ['in.csv', 'x.csv', 'y.csv'] data deep",
    "where": "[False, False, 'in']", "copy": "in", "elsewhere": "", "named": "",
    "beside": "poppopmodel",
}  # fmt: skip
LEVELS = ["fork", "reuse", "fresh", "none"]


def files(folder):
    """All that is in a folder, and what is in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def context():
    """The model beside its files, with one server for each level; it ends with the tests of this file."""
    with pytest.MonkeyPatch.context() as patch:
        # Sockets have short paths.
        tmp = Path(tempfile.mkdtemp(prefix="mr", dir="/tmp"))
        patch.setenv("TMPDIR", str(tmp))
        patch.setenv("SHARED", str(tmp / "shared.txt"))
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        patch.setattr(tempfile, "tempdir", None)
        patch.setattr(server_start, "IDLE_S", 1.0)
        yield context_of(made(tmp / "model"), timeout_s=60.0, target_s=600.0)
        wait_until(lambda: not list(tmp.glob("modelops-ray-*/*/socket")), "the fork servers to end", 20)
        assert not list(tmp.glob("modelops-ray-work-*"))
        shutil.rmtree(tmp)


def made(folder):
    """Write the model and its files."""
    import sqlite3

    import pyarrow as pa
    from pyarrow import parquet

    path = write(folder / "model.py", MODEL)
    (folder / "in.csv").write_text("in")
    (folder / "data" / "deep").mkdir(parents=True)
    (folder.parent / "beside").mkdir(exist_ok=True)
    (folder.parent / "beside" / "pop.csv").write_text("pop")
    (folder / "data" / "x.csv").write_text("data")
    (folder / "data" / "deep" / "y.csv").write_text("deep")
    parquet.write_table(pa.table({"x": [0]}), folder / "old.parquet")
    with sqlite3.connect(folder / "pop.sqlite") as database:
        database.execute("create table pop (n)")
        database.execute("insert into pop values (7)")
    database.close()
    return path


def run(context, isolation, hows, **options):
    """Run one simulation after the other; return what each made, how it failed, and what the run is told."""
    ready = replace(context, isolation=isolation, run=replace(context.run, parameter_types={}), **options)
    report, payload = run_chunk(ready, chunk_of([{"how": how} for how in hows]))
    failed = {failure.position - 10: failure.message for failure in report.failures}
    made_by = {}
    for output in payload.outputs.get("r", ()):
        made_by |= zip([position - 10 for position in output.positions], output.table["x"].to_pylist(), strict=True)
    return made_by, failed, report.notice


def meant(how, seed):
    """What a simulation is to make."""
    return EXPECTED[how].format(seed, seed, last=seed % 10, float=f"{float(seed):.18e}")


@pytest.mark.parametrize("isolation", LEVELS)
def test_what_a_simulation_writes_is_its_own(context, isolation):
    """However it is written, by whom, and over what: each one finds the model's files, and what it wrote itself."""
    folder = Path(context.model.location).parent
    before = files(folder)
    # Each twice, and by one child where that is possible: the second must not find what the first left.
    hows = [how for how in EXPECTED for _ in range(1 if isolation == "fresh" else 2)]
    made_by, failed, _ = run(context, isolation, hows, per_child=None if isolation == "fork" else 100)

    assert {} == failed
    assert {at: meant(how, 1000 + at) for at, how in enumerate(hows)} == made_by
    assert before == files(folder)


def test_children_that_several_share_find_nothing_of_each_other(context):
    """As forks of their own do not."""
    hows = ["write", "where", "folder", "where", "reads", "over", "append", "fork", "in place"] * 2
    made_by, failed, _ = run(context, "fork", hows, per_child=18)
    assert {} == failed
    assert {at: meant(how, 1000 + at) for at, how in enumerate(hows)} == made_by


@pytest.mark.parametrize("isolation", LEVELS)
def test_a_file_elsewhere_that_several_write_is_told(context, isolation):
    """Once, with its name and what to do; one that writes alone is not."""
    # What ran before has been told of.
    learned.learned.cache_clear()
    _, _, alone = run(context, isolation, ["write", "over", "temporary", "named", "named"])
    assert "" == alone
    _, failed, notice = run(context, isolation, ["elsewhere"] * 3)
    assert {} == failed
    assert f"several simulations write {os.environ['SHARED']}, where each meets what others wrote; " in notice
