"""Tables of parameter sets: files and frames become the sets that their rows say, and what is wrong is named."""

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet
import pytest

from modelops_ray.errors import StudyError
from modelops_ray.study.identity import param_id
from modelops_ray.study.simulations import Simulations
from modelops_ray.study.study import Study

duckdb, pd, pl = map(pytest.importorskip, ("duckdb", "pandas", "polars"))


def csv(tmp_path, text):
    """Write a table."""
    path = tmp_path / "sets.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def params_of(study):
    """The parameters of each set."""
    return [dict(each.params) for each in study.parameter_sets]


def refusal(frame):
    """The one line that a table is refused with."""
    with pytest.raises(StudyError) as caught:
        Study.table(frame)
    assert 1 == len(str(caught.value).splitlines())
    return str(caught.value)


def test_a_row_is_a_parameter_set_and_a_cell_what_it_says(tmp_path):
    """Whole numbers, fractions, truth values and texts are told apart by their spelling."""
    study = Study.table(csv(tmp_path, "n,beta,fast,kind\n1,0.5,true,a\n-20,1e-3,False, b \n"))

    expected = [
        {"n": 1, "beta": 0.5, "fast": True, "kind": "a"},
        {"n": -20, "beta": 0.001, "fast": False, "kind": "b"},
    ]
    assert expected == params_of(study)
    assert [int, float, bool, str] == [type(value) for value in params_of(study)[0].values()]
    assert (1, None, "baseline") == (study.n_replicates, study.model, study.scenario)


def test_the_numbers_of_a_column_are_of_one_type(tmp_path):
    """As in every reader of tables: a fraction in one row makes all of them floats."""
    assert [1.0, 0.5] == [each["x"] for each in params_of(Study.table(csv(tmp_path, "x\n1\n0.5\n")))]
    assert float is type(params_of(Study.table(csv(tmp_path, "x\n1\n0.5\n")))[0]["x"])


def test_numbers_that_begin_with_a_zero_are_texts(tmp_path):
    """They are names of places and groups, and would lose their zeros."""
    assert ["007", "010"] == [each["area"] for each in params_of(Study.table(csv(tmp_path, "area\n007\n010\n")))]


def test_what_spreadsheets_write_is_read(tmp_path):
    """A mark at the beginning, line ends of Windows, quotes, and empty lines."""
    study = Study.table(csv(tmp_path, b'\xef\xbb\xbf"beta","kind"\r\n0.5,"a, b"\r\n\r\n'))

    assert [{"beta": 0.5, "kind": "a, b"}] == params_of(study)


def test_the_numbers_of_rows_that_pandas_writes_are_no_parameter(tmp_path):
    """They stand in a column without a name."""
    pd.DataFrame({"beta": [0.1, 0.2]}).to_csv(tmp_path / "sets.csv")

    assert [{"beta": 0.1}, {"beta": 0.2}] == params_of(Study.table(tmp_path / "sets.csv"))


def test_a_seed_is_one_simulation_and_an_empty_one_is_derived(tmp_path):
    """As in a study file."""
    study = Study.table(csv(tmp_path, "beta,seed\n0.5,7\n0.7,\n"))

    assert [7, None] == [each.seed for each in study.parameter_sets]
    assert [{"beta": 0.5}, {"beta": 0.7}] == params_of(study)


def test_replicates_that_are_the_same_in_all_rows_are_those_of_the_study(tmp_path):
    """Their seeds are derived as everywhere."""
    study = Study.table(csv(tmp_path, "beta,replicates\n0.5,3\n0.7,3\n"))

    assert (3, 6) == (study.n_replicates, len(Simulations(study)))
    assert [{"beta": 0.5}, {"beta": 0.7}] == params_of(study)


def test_replicates_that_differ_have_the_seeds_of_the_same_replicates(tmp_path):
    """More in a row leave those that were there, which a run goes on with."""
    few = Simulations(Study.table(csv(tmp_path, "beta,replicates\n0.5,1\n0.7,2\n")))
    all_alike = Simulations(Study.table(csv(tmp_path, "beta\n0.5\n0.7\n"), replicates=2))

    assert 3 == len(few)
    assert {(each.param_id, each.seed) for each in few} < {(each.param_id, each.seed) for each in all_alike}


def test_what_is_asked_for_goes_before_the_column(tmp_path):
    """A table is tried with fewer."""
    assert 2 == len(Simulations(Study.table(csv(tmp_path, "beta,replicates\n0.5,3\n0.7,5\n"), replicates=1)))


FRAMES = {
    "pandas": pd.DataFrame({"beta": [0.5, 0.7], "n": [1, 2]}),
    "polars": pl.DataFrame({"beta": [0.5, 0.7], "n": [1, 2]}),
    "arrow": pa.table({"beta": [0.5, 0.7], "n": [1, 2]}),
    "numpy": {"beta": np.array([0.5, 0.7]), "n": np.array([1, 2], np.int16)},
    "scalars": {"beta": [np.float64(0.5), 0.7], "n": [1, np.int64(2)]},
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_a_frame_of_any_library_makes_the_same_study(frame):
    """Identifiers are hashes of text: a number of NumPy's is the number that it stands for."""
    study = Study.table(frame)

    assert [{"beta": 0.5, "n": 1}, {"beta": 0.7, "n": 2}] == params_of(study)
    assert param_id({"beta": 0.5, "n": 1}) == next(iter(Simulations(study))).param_id


def test_a_result_of_duckdb_is_a_frame():
    """It hands out Arrow's stream."""
    with duckdb.connect() as connection:
        study = Study.table(connection.sql("select 0.5::double as beta, 3 as n"))

    assert [{"beta": 0.5, "n": 3}] == params_of(study)


@pytest.mark.parametrize("ending", ["parquet", "arrow", "feather"])
def test_files_of_arrow_are_read(tmp_path, ending):
    """Parquet, and both forms of Arrow's own."""
    table, path = pa.table({"beta": [0.5], "seed": [7]}), tmp_path / f"sets.{ending}"
    if ending == "parquet":
        pa.parquet.write_table(table, path)
    elif ending == "feather":
        pa.feather.write_feather(table, path)
    else:
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)

    assert [({"beta": 0.5}, 7)] == [(dict(each.params), each.seed) for each in Study.table(path).parameter_sets]


def test_an_index_of_pandas_counts_where_it_has_a_name():
    """One that only numbers the rows, or is left of a selection, is no parameter."""
    frame = pd.DataFrame({"beta": [0.1, 0.2, 0.3], "n": [1, 2, 3]})

    assert [{"beta": 0.2, "n": 2}, {"beta": 0.3, "n": 3}] == params_of(Study.table(frame[frame.n > 1]))
    assert [{"n": 1, "beta": 0.1}] == params_of(Study.table(frame[:1].set_index("n")))


def test_an_index_named_like_a_column_is_refused(tmp_path):
    """Which of the two is meant is not to be guessed, in a frame and in the file that it was written to."""
    frame = pd.DataFrame({"beta": [0.1]}, index=pd.Index([0.2], name="beta"))
    frame.to_parquet(tmp_path / "sets.parquet")
    told = "found an index named beta, like a column; expected another name, or reset_index(drop=True)"

    assert f"Study.table: {told}" == refusal(frame)
    assert f"{tmp_path / 'sets.parquet'}: {told}" == refusal(tmp_path / "sets.parquet")


A_VALUE = "a number, a text, true or false"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "line 1: found nothing; expected the names of the parameters, with commas between them"),
        ("beta,gamma\n", "found no rows; expected at least one parameter set"),
        ("seed\n1\n", "found no column of a parameter; expected one for each parameter, such as beta"),
        ("a;b\n1;2\n", 'line 1: found one column, the text "a;b"; expected names with commas between them'),
        ("beta,beta\n1,2\n", "line 1: found the column beta twice; expected each column once"),
        ("beta,\n1,2\n", "line 1: found a column without a name; expected the name of a parameter"),
        ("beta,gamma\n1,2\n3\n", "line 3: found 1 value; expected 2, as in line 1"),
        ("beta,gamma\n1,2\n3,\n", f"line 3, column gamma: found nothing; expected {A_VALUE}"),
        ("beta\n1\nnan\n", "line 3, column beta: found NaN; expected a finite number that fits a 64-bit float"),
        (
            "beta\n1\n0.l\n",
            ('line 3, column beta: found the text "0.l", where earlier parameter sets have a number; '
            "expected one kind of value in all sets"),
        ),
        ("id\n1\n", ("line 2, column id: found a parameter called id; expected another name, because its column "
         "param_id is taken by the identifier")),
        ("beta,seed\n1,-1\n", ("line 2, column seed: found -1; expected a whole number from 0 to 18446744073709551615 "
         "(2^64-1), or null to derive it")),
        ("beta,replicates\n1,0\n", "line 2, column replicates: found 0; expected a whole number from 1 to 10000000"),
        (
            "beta,seed,replicates\n1,2,3\n",
            "line 2, column replicates: found 3 beside a seed; expected 1: a seed is one simulation",
        ),
        ('beta\n"1\n', "line 2: not CSV: unexpected end of data; correct it there"),
        (b"beta\ncaf\xe9\n", "line 2: found the byte 0xe9, which is not UTF-8; expected a CSV text in UTF-8"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_named_with_its_line(tmp_path, text, expected):
    """One line, that says what would be right."""
    path = csv(tmp_path, text)

    assert f"{path}: {expected}" == refusal(path)


def test_what_is_no_table_is_named(tmp_path):
    """By its path, or as what it is."""
    (tmp_path / "sets.parquet").write_text("no")
    (tmp_path / "sets.xlsx").write_text("no")

    assert refusal(tmp_path / "sets.parquet").startswith(f"{tmp_path}/sets.parquet: not a Parquet file: ")
    assert refusal(tmp_path / "sets.xlsx").endswith(
        "found the ending .xlsx; expected a table of parameter sets (.csv, .parquet or .arrow)"
    )
    assert refusal(tmp_path / "no.csv").startswith(f"{tmp_path}/no.csv: no such file; give the path of a table")
    assert "Study.table: found 3; expected a data frame, an Arrow table or a mapping of columns" == refusal(3)
    assert "Study.table: n: found 1 values; expected 2, as beta has" == refusal({"beta": [1, 2], "n": [1]})
    assert refusal({"beta": [None]}).startswith("Study.table: row 0, column beta: found nothing")


@pytest.mark.parametrize("noted", [b"\xff", b"{", b"[1]", b'{"columns": [1]}', b'{"columns": [{}]}', b"[" * 10**5])
def test_what_pandas_noted_and_cannot_be_read_is_refused(tmp_path, noted):
    """A file that a disk or another program broke there is still Parquet."""
    table = pa.table({"beta": [1.0]}).replace_schema_metadata({"pandas": noted})
    pa.parquet.write_table(table, path := tmp_path / "sets.parquet")

    assert f"{path}: what pandas noted of its columns cannot be read; write it again" == refusal(path)
