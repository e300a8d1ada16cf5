"""Studies from files and from grids, and what decides their digest."""

import json
import resource

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops_ray.errors import StudyError
from modelops_ray.study.identity import param_id
from modelops_ray.study.simulations import Simulations
from modelops_ray.study.study import Study


def study_text(**changes):
    """A valid study as text, with some keys replaced."""
    document = {"model": "models.sir", "scenario": "baseline", "parameter_sets": [{"params": {"beta": 0.1}}]}
    return json.dumps(document | changes)


def identities(study):
    """What is run: identifiers and seeds in study order."""
    return [(each.param_id, each.seed) for each in Simulations(study)]


def test_the_example_of_the_format_is_read():
    """Sets with an explicit seed are one simulation, the others n_replicates with derived seeds."""
    study = Study.from_json("""
        {"model": "models.sir", "scenario": "baseline",
         "parameter_sets": [{"params": {"beta": 0.08, "dur_inf": 5.0}},
                            {"params": {"beta": 0.10, "dur_inf": 4.0}, "seed": 52}],
         "sampling_method": "manual", "n_replicates": 3, "outputs": null,
         "targets": ["targets.incidence:incidence_mean_signal_target"],
         "metadata": {"target_ids": ["inc_mean"], "target_set": null}}""")

    assert [1329704202, 1178940121, 720726679, 52] == [each.seed for each in Simulations(study)]
    assert ("targets.incidence:incidence_mean_signal_target",) == study.targets
    assert {"target_ids": ["inc_mean"], "target_set": None} == study.metadata


def test_old_new_and_mixed_forms_mean_the_same():
    """The form of a parameter set changes neither identifiers nor seeds nor the digest."""
    new = [{"params": {"beta": 0.1}}, {"params": {"beta": 1}, "seed": None}]
    old = [{"beta": 0.1}, {"beta": 1}]
    mixed = [old[0], new[1]]
    studies = [Study.from_json(study_text(parameter_sets=sets)) for sets in (new, old, mixed)]

    assert 1 == len({study.digest for study in studies})
    assert identities(studies[0]) == identities(studies[1]) == identities(studies[2])


def test_keys_that_may_be_missing_have_the_defaults_of_the_format():
    """Only model, scenario and parameter sets are needed; unknown keys are ignored."""
    study = Study.from_json(study_text(colour="red"))

    assert ("manual", 1, None, None, {}) == (
        study.sampling_method,
        study.n_replicates,
        study.outputs,
        study.targets,
        study.metadata,
    )


def test_outputs_are_sorted_and_an_empty_list_means_all():
    """As ModelOps does when it makes a job of a study."""
    assert ("a", "b") == Study.from_json(study_text(outputs=["b", "a", "b"])).outputs
    assert Study.from_json(study_text(outputs=[])).outputs is None


def test_the_largest_seed_is_legal():
    """Seeds go up to 2**64 - 1, and 0 is one."""
    sets = [{"params": {"x": 1}, "seed": 2**64 - 1}, {"params": {"x": 1}, "seed": 0}]
    study = Study.from_json(study_text(parameter_sets=sets))

    assert [2**64 - 1, 0] == [each.seed for each in Simulations(study)]


def test_a_study_knows_the_folder_of_its_file(tmp_path, monkeypatch):
    """A model path in a study is relative to the file, wherever the program was started."""
    (tmp_path / "study.json").write_text(study_text(model="sir.py:simulate"))
    monkeypatch.chdir(tmp_path)
    study = Study.load("study.json")

    assert ("sir.py:simulate", tmp_path) == (study.model, study.folder)
    assert study == Study.from_json(study_text(model="sir.py:simulate"))


def test_a_grid_is_the_full_factorial_with_the_last_name_fastest():
    """Order decides positions, so it is part of the promise."""
    study = Study.grid({"beta": [0.1, 0.2], "kind": ["a", "b"]}, replicates=2)

    assert [(0.1, "a"), (0.1, "b"), (0.2, "a"), (0.2, "b")] == [
        tuple(each.params.values()) for each in study.parameter_sets
    ]
    assert 8 == len(Simulations(study))


def test_a_grid_of_numpy_values_is_that_of_the_python_values():
    """The identifier must not depend on which library made the number."""
    axes = {"x": np.linspace(0, 1, 3), "n": np.arange(2), "b": [np.True_], "s": np.array(["a"])}
    plain = {"x": [0.0, 0.5, 1.0], "n": [0, 1], "b": [True], "s": ["a"]}

    assert Study.grid(plain).digest == Study.grid(axes, replicates=np.int64(30)).digest


def test_a_grid_without_axes_is_one_set_without_parameters():
    """A model without parameters can still be replicated."""
    assert [param_id({})] * 3 == [each.param_id for each in Simulations(Study.grid({}, replicates=3))]


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5).filter(lambda name: name != "id")
kinds = [
    st.booleans(),
    st.text(st.characters(codec="utf-8"), max_size=5),
    st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70),
]


@st.composite
def studies(draw):
    """Studies in mixed form with every kind of value, some with metadata."""
    columns = draw(st.dictionaries(names, st.sampled_from(kinds), max_size=3))
    params = st.fixed_dictionaries(columns)
    new = st.fixed_dictionaries({"params": params}, optional={"seed": st.none() | st.integers(0, 2**64 - 1)})
    sets = st.lists(new, min_size=1, max_size=4)
    metadata = draw(st.dictionaries(st.text(max_size=3), st.none() | st.integers() | st.text(max_size=3), max_size=2))
    return study_text(parameter_sets=draw(sets), n_replicates=draw(st.integers(1, 3)), metadata=metadata)


@given(text=studies())
def test_saving_and_loading_changes_nothing(text, tmp_path_factory):
    """The file written is the study read: spelling, identifiers, seeds, everything."""
    study = Study.from_json(text)
    path = tmp_path_factory.mktemp("saved") / "study.json"
    study.save(path)
    loaded = Study.load(path)

    assert study == loaded == Study.from_dict(study.to_dict())
    assert (study.digest, identities(study)) == (loaded.digest, identities(loaded))


def test_a_saved_study_has_one_parameter_set_per_line(tmp_path):
    """The file is compact and yet can be read and compared by line."""
    path = tmp_path / "grid.json"
    Study.grid({"x": [1, 2]}, replicates=2, model="m.f").save(path)

    assert '    {"params": {"x": 1}},\n    {"params": {"x": 2}}\n' in path.read_text()


def test_a_study_without_a_model_is_kept_as_well(tmp_path):
    """A run may take its model as a function or an option."""
    study = Study.grid({"x": [1]})
    study.save(tmp_path / "study.json")

    assert study == Study.from_dict(study.to_dict()) == Study.load(tmp_path / "study.json")


def test_the_scenario_is_baseline_unless_it_is_given():
    """As in Python."""
    assert "baseline" == Study.from_dict({"parameter_sets": [{"x": 1}]}).scenario


def test_from_dict_leaves_its_argument_alone():
    """What is read is still the caller's."""
    document = Study.grid({"x": [1, 2]}).to_dict()
    before = json.dumps(document)
    Study.from_dict(document)

    assert before == json.dumps(document)


def test_a_save_that_fails_leaves_the_old_file(tmp_path):
    """With no room for the new file the old one stays whole, and no draft is left."""
    path = tmp_path / "study.json"
    Study.grid({"x": [1]}, model="m.f").save(path)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(StudyError, match="cannot be written: File too large"):
            Study.grid({"x": list(range(100))}, model="m.f").save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert (before, [path]) == (path.read_bytes(), list(tmp_path.iterdir()))


@pytest.mark.parametrize(
    ("folder", "reason"), [("missing", "No such file or directory"), ("occupied", "Not a directory")]
)
def test_a_save_where_no_file_can_be_says_so(tmp_path, folder, reason):
    """The message names the file and the reason."""
    (tmp_path / "occupied").touch()
    with pytest.raises(StudyError, match=rf"study\.json: cannot be written: {reason}"):
        Study.grid({"x": [1]}, model="m.f").save(tmp_path / folder / "study.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"scenario": "lockdown"},
        {"n_replicates": 2},
        {"outputs": ["incidence"]},
        {"parameter_sets": [{"params": {"beta": 0.2}}]},
        {"parameter_sets": [{"params": {"beta": 0.1}, "seed": 1}]},
        {"parameter_sets": [{"params": {"beta": 0.1}}] * 2},
    ],
)
def test_what_decides_the_result_changes_the_digest(changes):
    """Two studies with one digest would share a run directory."""
    assert Study.from_json(study_text()).digest != Study.from_json(study_text(**changes)).digest


def test_the_spelling_of_a_number_changes_the_digest():
    """1 and 1.0 have other identifiers and other seeds, though Python calls them equal."""
    one, other = (Study.from_json(study_text(parameter_sets=[{"x": x}])) for x in (1, 1.0))

    assert one.digest != other.digest


@pytest.mark.parametrize(
    "changes", [{"model": "models.seir"}, {"metadata": {"name": "x"}}, {"sampling_method": "sobol"}]
)
def test_what_decides_nothing_leaves_the_digest(changes):
    """The model has a digest of its own."""
    assert Study.from_json(study_text()).digest == Study.from_json(study_text(**changes)).digest
