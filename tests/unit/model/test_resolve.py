"""Finding models in the forms users give them, and loading them where they run."""

from __future__ import annotations

import gc
import json
import os
import pickle
import platform
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest
from support.models import write

from modelops_ray.errors import ModelError
from modelops_ray.model.resolve import find_model, installed_versions, resolve_model
from modelops_ray.sandbox.loading import load_model, refuse_while_loading

SIR = "def simulate(params, seed):\n    return {'x': params['beta'] * seed}\n"


def run_python(*arguments, cwd, **env):
    """Run Python in a process of its own; return its stdout."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(model, base):
    """Return the one line that a model is refused with."""
    with pytest.raises(ModelError) as caught:
        resolve_model(model, base)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_file_is_found_relative_to_the_base(tmp_path):
    """`path.py:function` is a file below the base folder."""
    path = write(tmp_path / "models" / "sir.py", SIR)

    ref = resolve_model("models/sir.py:simulate", tmp_path)

    assert ("file", "sir.simulate", str(path)) == (ref.kind, ref.entrypoint_name, ref.location)
    assert load_model(ref)({"beta": 2.0}, 3, "baseline") == {"x": 6.0}


@pytest.mark.parametrize(
    ("stem", "entrypoint"), [("my-model", "my_model.simulate"), ("01 sir", "_01_sir.simulate"), ("été", "été.simulate")]
)
def test_any_file_name_makes_an_entrypoint(tmp_path, stem, entrypoint):
    """What is no Python name is made one for the identity; the file is loaded all the same."""
    write(tmp_path / f"{stem}.py", SIR)

    assert entrypoint == resolve_model(f"{stem}.py:simulate", tmp_path).entrypoint_name


def test_a_module_of_a_package_is_found_in_the_base_folder(tmp_path):
    """`package.module:function` needs no installation; every file of the package that it imports counts."""
    write(tmp_path / "epi_a" / "__init__.py", "")
    write(tmp_path / "epi_a" / "sub" / "__init__.py", "")
    write(
        tmp_path / "epi_a" / "sub" / "sir.py", "from epi_a.rates import RATE\n\ndef simulate(p, s): return {'x': RATE}"
    )
    rates = write(tmp_path / "epi_a" / "rates.py", "RATE = 1")
    write(tmp_path / "epi_a" / "plot.py", "PLOT = 1")

    ref = resolve_model("epi_a.sub.sir:simulate", tmp_path)
    write(rates, "RATE = 2")
    changed = resolve_model("epi_a.sub.sir:simulate", tmp_path)

    assert (ref.kind, ref.entrypoint_name) == ("module", "epi_a.sub.sir.simulate")
    names = ["epi_a/__init__.py", "epi_a/rates.py", "epi_a/sub/__init__.py", "epi_a/sub/sir.py"]
    assert names == [state.path for state in ref.imported]
    assert {"epi_a/rates.py"} == {state.path for state in set(ref.imported) ^ set(changed.imported)}


def test_a_single_module_is_that_file_only(tmp_path):
    """Neighbours of a top-level module are not part of it."""
    write(tmp_path / "lone_a.py", SIR)
    before = resolve_model("lone_a:simulate", tmp_path)

    write(tmp_path / "other.py", "x = 1")

    assert before == resolve_model("lone_a:simulate", tmp_path)


def test_two_modules_of_one_package_are_two_models(tmp_path):
    """The same function name in another module is another digest."""
    write(tmp_path / "epi_b" / "__init__.py", "")
    write(tmp_path / "epi_b" / "one.py", SIR)
    write(tmp_path / "epi_b" / "two.py", SIR)

    one, two = (resolve_model(f"epi_b.{name}:simulate", tmp_path) for name in ("one", "two"))

    assert one.digest != two.digest


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("sir.py", "model 'sir.py' names no function; write path/to/file.py:function or package.module:function"),
        (":simulate", "model ':simulate' names no function"),
        ("sir.py:", "model 'sir.py:' names no function"),
        ("sir.py:a-b", "model 'sir.py:a-b' names no function"),
        ("nowhere.py:simulate", "nowhere.py does not exist; write"),
        ("folder.py:simulate", "folder.py is a folder; write"),
        ("./notes.txt:simulate", "notes.txt is not a .py file"),
        ("a b:simulate", "model 'a b:simulate' is neither a .py file nor a module"),
        ("no_such_module_x:simulate", "there is no module no_such_module_x on node"),
        ("math:sqrt", "module math is not Python source"),
        ("good.py:missing", "model good.py:missing: there is no missing in "),
        ("good.py:missing", "it has helper, simulate"),
        ("empty.py:simulate", "it defines no function"),
        ("good.py:NUMBER", "model good.py:NUMBER is a int, not a function of (params, seed[, scenario])"),
        (
            "broken.py:simulate",
            "does not import: ModuleNotFoundError: No module named 'no_such_thing' (deep.py line 3)",
        ),
        ("syntax.py:simulate", "does not import: SyntaxError: '(' was never closed (syntax.py, line 2)"),
        ("exits.py:simulate", "does not import: SystemExit: bye for now (exits.py line 2)"),
        ("random.py:simulate", "random.py has the name of the module random, which it would hide; rename the file"),
    ],
)
def test_what_cannot_be_found_or_imported_is_refused_in_one_line(tmp_path, model, says):
    """The line names the thing, the place and what would be right."""
    write(tmp_path / "good.py", "NUMBER = 1\ndef simulate(p, s): pass\ndef helper(): pass\ndef _private(): pass")
    write(tmp_path / "empty.py", "")
    write(tmp_path / "broken.py", "import deep")
    write(tmp_path / "deep.py", "\n\nimport no_such_thing")
    write(tmp_path / "syntax.py", "\nx = (")
    write(tmp_path / "exits.py", "import sys\nsys.exit('bye\\nfor now')")
    write(tmp_path / "random.py", SIR)
    (tmp_path / "folder.py").mkdir()
    write(tmp_path / "notes.txt", "")

    assert says in refused(model, tmp_path)


@pytest.mark.parametrize(
    ("signature", "calls_with"),
    [
        ("params, seed", 2),
        ("p, s", 2),
        ("params, seed, /", 2),
        ("params, seed, verbose=False", 2),
        ("*arguments", 2),
        ("params, seed, **options", 2),
        ("params, seed, scenario", 3),
        ("params, seed, scenario='baseline'", 3),
        ("params, seed, scenario, verbose=False", 3),
    ],
)
def test_functions_that_can_be_called(tmp_path, signature, calls_with):
    """The scenario is passed to those that have it, and only to them."""
    arguments = "arguments" if signature == "*arguments" else "tuple(locals().values())"
    write(tmp_path / "sir.py", f"def simulate({signature}):\n    return {arguments}")

    returned = load_model(resolve_model("sir.py:simulate", tmp_path))({}, 7, "lockdown")

    assert ({}, 7, "lockdown")[:calls_with] == returned[:calls_with]
    assert calls_with == 3 or "lockdown" not in returned


@pytest.mark.parametrize(
    "signature",
    [
        "", "params", "params, seed, other", "params, seed, scenario, other", "*, params, seed", "params, *, seed",
        "params, seed, *, scenario='baseline'", "params, scenario, seed", "seed, params", "params, seed, *, other",
    ],
)  # fmt: skip
def test_functions_that_take_other_parameters_are_refused(tmp_path, signature):
    """The message says what is wanted and what was found."""
    write(tmp_path / "sir.py", f"def simulate({signature}): pass")

    says = refused("sir.py:simulate", tmp_path)

    assert f"must take (params, seed) or (params, seed, scenario) by position; it takes ({signature})" in says


def test_something_that_is_no_function_is_refused(tmp_path):
    """A number is no model."""
    assert refused(3, tmp_path).startswith("model is a int; give a function, or write path/to/file.py:function")


def test_a_callable_without_a_readable_signature_is_refused(tmp_path):
    """Some builtins do not tell what they take."""
    with pytest.raises(ModelError, match=r"must take .* its signature cannot be read"):
        resolve_model(max, tmp_path, pickle.dumps)


def test_neighbours_dataclasses_and_pickle_work_inside_a_model(tmp_path):
    """A model file behaves as if it were imported."""
    write(tmp_path / "neighbour_a.py", "FACTOR = 10")
    write(
        tmp_path / "sir.py",
        """
        from __future__ import annotations
        import pickle
        from dataclasses import dataclass
        from neighbour_a import FACTOR

        @dataclass
        class State:
            value: int

        def simulate(params, seed):
            from neighbour_a import FACTOR as again
            return {"x": pickle.loads(pickle.dumps(State(seed * FACTOR))).value + again}
        """,
    )

    assert load_model(resolve_model("sir.py:simulate", tmp_path))({}, 2, "") == {"x": 30}


def test_two_models_in_one_process_do_not_share_neighbours(tmp_path):
    """Helpers of the same name are each model's own, and the first model can be loaded again."""
    for name in ("one", "two"):
        write(tmp_path / name / "shared_helper.py", f"NAME = '{name}'")
        write(tmp_path / name / "sir.py", "import shared_helper\ndef simulate(p, s): return shared_helper.NAME")
    refs = [resolve_model("sir.py:simulate", tmp_path / name) for name in ("one", "two")]

    assert [load_model(ref)({}, 1, "") for ref in (*refs, refs[0])] == ["one", "two", "one"]


def test_resolving_leaves_the_process_as_it_was(tmp_path, monkeypatch):
    """The driver's own modules of the same names stay the driver's, and it gets no others."""
    write(tmp_path / "sir_h.py", "import helper_h\n" + SIR)
    write(tmp_path / "helper_h.py", "")
    monkeypatch.syspath_prepend(tmp_path)
    mine = __import__("sir_h")
    write(tmp_path / "apart" / "sir_k.py", "import helper_k\nimport wave\n" + SIR)
    write(tmp_path / "apart" / "helper_k.py", "")
    path, frozen = list(sys.path), gc.get_freeze_count()

    resolve_model("sir_k.py:simulate", tmp_path / "apart")
    resolve_model("sir_h.py:simulate", tmp_path)
    resolve_model(mine.simulate, tmp_path)

    assert (mine, mine.helper_h) == (sys.modules["sir_h"], sys.modules["helper_h"])
    assert (path, frozen) == (sys.path, gc.get_freeze_count())
    assert {"sir_k", "helper_k", "wave"}.isdisjoint(sys.modules)


def test_what_is_installed_is_never_imported_twice(tmp_path):
    """Neither this package nor a virtual environment in the model's folder is taken for the model's own."""
    site = tmp_path / ".venv" / "lib" / "site-packages"
    write(site / "installed_h.py", "")
    model = write(tmp_path / "sir.py", f"import sys\nsys.path.append({str(site)!r})\nimport installed_h\n" + SIR)
    load_model(resolve_model("sir.py:simulate", tmp_path))
    first = sys.modules["installed_h"]

    write(model, model.read_text() + "\n")
    load_model(resolve_model("sir.py:simulate", tmp_path))

    assert first is sys.modules["installed_h"]


def test_an_edited_model_is_loaded_anew(tmp_path):
    """A second edit within the same second and of the same size is seen, in the file and in a package."""
    write(tmp_path / "epi_c" / "__init__.py", "")
    seen = []
    for value in (1, 2, 3):
        write(tmp_path / "epi_c" / "sir.py", f"def simulate(p, s): return {value}")
        seen.append(load_model(resolve_model("epi_c/sir.py:simulate", tmp_path))({}, 1, ""))

    assert seen == [1, 2, 3]


def test_a_model_is_imported_once_per_process(tmp_path):
    """The second chunk finds it loaded, even when its files have changed since."""
    path = write(tmp_path / "sir.py", SIR)
    ref = resolve_model("sir.py:simulate", tmp_path)
    loaded = load_model(ref)

    write(path, "raise RuntimeError")

    assert loaded is load_model(ref)


@pytest.mark.parametrize("model", ["sir_d.py:simulate", "sir_d:simulate"])
def test_a_model_that_changed_during_the_run_is_refused(tmp_path, model):
    """A worker that starts later must not run another model under the same identity."""
    path = write(tmp_path / "sir_d.py", SIR)
    ref = resolve_model(model, tmp_path)
    write(path, SIR.replace("*", "+"))
    resolve_model(model, tmp_path)  # the process now has the other version

    with pytest.raises(ModelError, match=f"changed while the run was on .*{platform.node()}.*start the run again"):
        load_model(ref)


def test_a_model_that_is_not_on_this_node_is_refused(tmp_path):
    """The message names file and node."""
    write(tmp_path / "sir.py", SIR)
    ref = replace(
        resolve_model("sir.py:simulate", tmp_path), digest="other", location=str(tmp_path / "gone" / "sir.py")
    )

    with pytest.raises(ModelError, match=f"gone/sir.py is not on node {platform.node()}; put it on storage"):
        load_model(ref)


def test_what_a_model_prints_while_it_is_imported_stays_off_stdout(tmp_path, capsys):
    """Stdout may carry the one JSON object of a run."""
    write(tmp_path / "sir.py", "print('hello')\n" + SIR)

    resolve_model("sir.py:simulate", tmp_path)

    assert capsys.readouterr() == ("", "hello\n")


def test_a_ref_is_small_and_pickles(tmp_path):
    """It travels with every run to every worker."""
    write(tmp_path / "sir.py", SIR)
    ref = resolve_model("sir.py:simulate", tmp_path)

    assert ref == pickle.loads(pickle.dumps(ref))
    assert len(pickle.dumps(ref)) < 1000


SCRIPT = """
import json, pickle, sys
from pathlib import Path
from modelops_ray.model.resolve import resolve_model
from modelops_ray.sandbox.loading import load_model, refuse_while_loading

def simulate(params, seed):
    return {"module": __name__, "seed": seed}

def driver():
    refuse_while_loading()
    ref = resolve_model(simulate, Path.cwd())
    fields = {name: getattr(ref, name) for name in ("kind", "entrypoint_name", "digest", "location", "label")}
    print(json.dumps(fields | {"returned": load_model(ref)({}, 5, "")}))

"""


def test_a_function_of_the_running_script_is_loaded_from_its_file(tmp_path):
    """Its `__main__` block does not run, and the identity is that of the same file given by name."""
    script = write(tmp_path / "study_one.py", SCRIPT + 'if __name__ == "__main__":\n    driver()\n')

    found = json.loads(run_python(script, cwd=tmp_path))
    by_name = resolve_model("study_one.py:simulate", tmp_path)

    assert found["returned"] == {"module": "study_one", "seed": 5}
    assert ("file", by_name.entrypoint_name, by_name.digest, by_name.label) == (
        found["kind"], found["entrypoint_name"], found["digest"], found["label"],
    )  # fmt: skip


def test_a_script_without_a_main_guard_is_told_to_have_one(tmp_path):
    """Importing it would start the run again in every worker."""
    script = write(tmp_path / "study_two.py", SCRIPT + "driver()\n")

    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)

    says = 'importing model study_two.py:simulate starts a run; put that call under `if __name__ == "__main__":`'
    assert f"modelops_ray.errors.ModelError: {says}" == done.stderr.splitlines()[-1]


def test_a_run_may_start_when_no_model_is_being_imported(tmp_path):
    """After an import that failed as well."""
    write(tmp_path / "bad.py", "1 / 0")
    refused("bad.py:simulate", tmp_path)

    refuse_while_loading()


def test_a_module_run_with_dash_m_is_found_under_its_own_name(tmp_path):
    """`python -m package.module` has the name `__main__` and still is package.module."""
    write(tmp_path / "epi_e" / "__init__.py", "")
    write(tmp_path / "epi_e" / "study.py", SCRIPT + 'if __name__ == "__main__":\n    driver()\n')

    found = json.loads(run_python("-m", "epi_e.study", cwd=tmp_path))

    assert (
        found["kind"], found["entrypoint_name"], found["returned"]["module"],
    ) == ("module", "epi_e.study.simulate", "epi_e.study")  # fmt: skip


def test_a_function_of_an_imported_module_is_its_file(tmp_path, monkeypatch):
    """`run(model=sir.simulate)` and `--model sir.py:simulate` are the same model."""
    write(tmp_path / "sir_f.py", SIR)
    monkeypatch.syspath_prepend(tmp_path)
    module = __import__("sir_f")

    assert resolve_model("sir_f.py:simulate", tmp_path) == resolve_model(module.simulate, tmp_path)


def test_a_function_of_an_installed_module_is_that_module(tmp_path, monkeypatch):
    """A folder shared with everything installed is not the model's own."""
    folder = tmp_path / "site-packages"
    write(folder / "sir_g.py", SIR)
    monkeypatch.syspath_prepend(folder)
    module = __import__("sir_g")

    assert (resolve_model(module.simulate, tmp_path).kind, "sir_g") == ("module", "sir_g")


NOTEBOOK = """
import json, pickle, functools
from pathlib import Path
from modelops_ray.model.resolve import find_model
cell = "def simulate(params, seed):\\n    return {'x': seed}"
exec(cell)
first = find_model(simulate, Path.cwd(), pickle.dumps)
exec(cell)
again = find_model(simulate, Path.cwd(), pickle.dumps)
print(json.dumps([first.kind, first.entrypoint_name, first.digest == again.digest]))
"""


def test_a_function_that_no_file_defines_travels_by_value(tmp_path):
    """As in a notebook: the same cell run twice is the same model."""
    assert json.loads(run_python("-c", NOTEBOOK, cwd=tmp_path)) == ["pickled", "__main__.simulate", True]


class Half:
    """A callable that holds a value."""

    def __init__(self, divisor):
        self.divisor = divisor

    def __call__(self, params, seed):
        """Simulate."""
        return {"x": seed / self.divisor}


def test_a_callable_object_travels_by_value(tmp_path):
    """What it holds is part of the model."""
    one, other = (find_model(Half(divisor), tmp_path, pickle.dumps) for divisor in (2, 4))

    assert load_model(one)({}, 8, "") == {"x": 4.0}
    assert (one.label, one.digest == other.digest) == ("Half", False)


def test_a_function_inside_a_function_needs_to_be_pickled_by_value(tmp_path):
    """Without a function that can, the message says where to put it."""

    def simulate(params, seed):
        return {"x": 1}

    assert refused(simulate, tmp_path).startswith("model simulate is not defined by a file; define it at the top level")


def test_what_cannot_be_pickled_is_refused(tmp_path):
    """The reason is the pickler's."""
    with pytest.raises(ModelError, match="model lambda cannot be sent to workers: AttributeError: Can't"):
        resolve_model(lambda params, seed: None, tmp_path, pickle.dumps)


def test_a_pickle_that_does_not_load_here_is_refused(tmp_path):
    """A module that is missing where the model runs is named."""
    ref = replace(find_model(Half(2), tmp_path, pickle.dumps), pickled=b"cno_such_module\nf\n.", digest="other")

    with pytest.raises(ModelError, match="model Half does not import: ModuleNotFoundError: No module named"):
        load_model(ref)


def test_installed_versions_are_those_of_the_environment():
    """Names are lower case and sorted."""
    versions = installed_versions()

    assert versions["pyarrow"] == __import__("pyarrow").__version__
    assert sorted(versions) == list(versions)


def test_the_package_is_what_a_worker_needs(tmp_path):
    """A ref resolved here loads in a fresh process from its pickle alone."""
    write(tmp_path / "sir.py", SIR)
    (tmp_path / "ref.pickle").write_bytes(pickle.dumps(resolve_model("sir.py:simulate", tmp_path)))
    worker = textwrap.dedent("""
        import pickle, pathlib
        from modelops_ray.sandbox.loading import load_model
        print(load_model(pickle.loads(pathlib.Path("ref.pickle").read_bytes()))({"beta": 2.0}, 4, ""))
    """)

    assert run_python("-c", worker, cwd=tmp_path) == "{'x': 8.0}\n"
