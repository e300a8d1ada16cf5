"""The commit log is contiguous, sealed and free of contradictions, or the file that is wrong is named."""

import json
from datetime import UTC, datetime

import pytest
from support.stores import grid, run_json_of

from modelops_ray.core.ranges import Ranges
from modelops_ray.errors import ResultsError
from modelops_ray.store.commits import (
    FORMAT,
    CommitFile,
    Part,
    commit_name,
    decode,
    digest_of,
    encode,
    genesis,
    read_log,
)
from modelops_ray.store.run_json import NAME, encode_run_json, read_run_json
from modelops_ray.store.storage.local import LocalFolder

RUN = "0123456789abcdef" * 2
OTHER = "fedcba9876543210" * 2


def part(n, positions=((0, 2),), *, failed=False, folder="simulations"):
    """A part as a commit names it; there is no such file."""
    rows = sum(stop - start for start, stop in positions) if folder == "simulations" else 7
    return Part(
        path=f"{folder}/part-0123abcd-{n}.parquet",
        rows=rows,
        bytes=100,
        sha256="0" * 64,
        positions=positions if folder == "simulations" else (),
        failed=failed,
    )


def commit(number, *added, session="0123abcd", **kwargs):
    """A commit of some session."""
    return CommitFile(
        run=kwargs.pop("run", RUN),
        previous=kwargs.pop("previous", genesis(RUN)),
        number=number,
        session=session,
        host="here",
        pid=1,
        time=datetime(2025, 1, 1, tzinfo=UTC),
        study=kwargs.pop("study", "s"),
        added=added,
        **kwargs,
    )


@pytest.fixture
def folder(tmp_path):
    """A run directory without commits."""
    folder = LocalFolder(tmp_path)
    folder.replace(NAME, encode_run_json(run_json_of(grid()).model_copy(update={"id": RUN})))
    return folder


def write(folder, *log):
    """Append commits to the log, each following the one before."""
    tip = genesis(RUN)
    for each in log:
        data = encode(each.model_copy(update={"previous": tip}))
        folder.replace(commit_name(each.number), data)
        tip = digest_of(data)


def test_a_commit_reads_back_as_it_was_written():
    """Encoding loses nothing."""
    written = commit(3, part(1, ((5, 7), (1, 2))), part(2, folder="outputs/incidence"), retracted=["x"])

    assert written == decode(encode(written), "c")


def test_an_empty_directory_has_an_empty_log(folder):
    """Nothing done yet is no error."""
    log = read_log(folder)

    assert (0, None, Ranges()) == (log.last, log.study, log.done())


def test_live_parts_are_those_added_and_not_retracted(folder):
    """The log is replayed in order."""
    first, second = part(1, ((0, 2),)), part(2, ((2, 5),), failed=True)
    write(folder, commit(1), commit(2, first, second), commit(3, part(3, ((8, 9),)), retracted=[second.path]))

    log = read_log(folder)

    assert Ranges([(0, 2), (8, 9)]) == log.done()
    assert (log.rows(failed=False), log.rows(failed=True)) == (3, 0)


def test_a_checkpoint_replaces_everything_before(folder):
    """Positions after it may refer to another study."""
    write(folder, commit(1, part(1, ((0, 2),))), commit(2, part(1, ((6, 8),)), study="t", checkpoint=True))

    log = read_log(folder)

    assert ("t", Ranges([(6, 8)])) == (log.study, log.done())


def test_more_than_a_million_commits_sort_by_number(folder):
    """Names longer than six digits come after, not before."""
    names = [commit_name(number) for number in (9, 10, 999_999, 1_000_000)]

    assert [name.removeprefix("_commits/")[:-5] for name in names] == ["000009", "000010", "999999", "1000000"]


def test_a_missing_commit_is_named(folder):
    """A log with a hole is no log."""
    write(folder, commit(1), commit(2), commit(3))
    folder.remove(commit_name(2))

    with pytest.raises(ResultsError, match=r"000002\.json: it is missing, the next commit found is 000003\.json"):
        read_log(folder)


def test_a_name_of_another_shape_is_refused(folder):
    """A copy of a commit under a number of our shape cannot be overlooked."""
    write(folder, commit(1))
    folder.replace("_commits/1.json", folder.read(commit_name(1)))

    with pytest.raises(ResultsError, match="it is missing"):
        read_log(folder)


def test_a_commit_under_another_number_is_refused(folder):
    """Files that were renamed do not count."""
    folder.replace(commit_name(1), encode(commit(2)))

    with pytest.raises(ResultsError, match=r"000001\.json: it says it is commit 2"):
        read_log(folder)


def test_leftovers_of_a_crash_are_not_commits(folder):
    """A half-written temporary file is passed over."""
    write(folder, commit(1))
    folder.replace("_commits/.000002.json.0123abcd.tmp", b'{"format":')

    assert read_log(folder).last == 1


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[]", b"{}", b'{"format": true}', b'{"format": 0}'])
def test_what_is_no_commit_is_named(folder, data):
    """With anything in the file, the message says which file."""
    folder.replace(commit_name(1), data)

    with pytest.raises(ResultsError, match=r"000001\.json: .*restore the file"):
        read_log(folder)


def test_every_flipped_bit_of_a_commit_is_noticed():
    """The seal covers all of it."""
    data = encode(commit(1, part(1)))

    for at in range(len(data) - 1):  # the final newline means nothing
        with pytest.raises(ResultsError):
            decode(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], "c")


def test_a_newer_format_is_refused_by_name():
    """It is not called damaged, and the remedy is another one."""
    document = json.loads(encode(commit(1))) | {"format": FORMAT + 1, "new": 1}

    with pytest.raises(
        ResultsError, match=rf"c: written in format {FORMAT + 1}, .* reads up to {FORMAT}; install a newer version"
    ):
        decode(json.dumps(document).encode(), "c")


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"number": 0}, "/number"),
        ({"surprise": 1}, "/surprise"),
        ({"added": [{"path": "simulations/../../x"}]}, "/added/0/path"),
    ],
)
def test_a_sealed_commit_with_wrong_values_names_the_place(monkeypatch, change, place):
    """A valid seal alone does not make a commit."""
    document = commit(1).model_dump(mode="json") | change
    monkeypatch.setattr(CommitFile, "model_dump_json", lambda self: json.dumps(document, separators=(",", ":")))

    with pytest.raises(ResultsError, match=f"c: {place}: "):
        decode(encode(commit(1)), "c")


@pytest.mark.parametrize("positions", [((3, 3),), ((4, 2),), ((0, 5),)])
def test_a_part_whose_positions_are_not_its_rows_is_refused(positions):
    """Two rows are two positions."""
    with pytest.raises(ValueError, match="positions"):
        Part(path="simulations/part-0123abcd-1.parquet", rows=2, bytes=1, sha256="0" * 64, positions=positions)


@pytest.mark.parametrize(
    ("log", "problem"),
    [
        ([commit(1, part(1)), commit(2, part(1))], "a second time"),
        ([commit(1, part(1)), commit(2, retracted=["simulations/part-0123abcd-9.parquet"])], "no commit before"),
        ([commit(1, part(1)), commit(2, part(2, ((1, 3),)))], "position 1 is committed twice"),
        ([commit(1, part(1)), commit(2, part(2, ((5, 6),)), study="t")], "another study"),
    ],
)
def test_a_log_that_contradicts_itself_is_refused(folder, log, problem):
    """Each commit must make sense after those before it."""
    write(folder, *log)

    with pytest.raises(ResultsError, match=problem):
        read_log(folder)


def test_a_commit_that_does_not_follow_the_one_before_is_refused(folder):
    """A log that was put together from two is no log, even of one run."""
    write(folder, commit(1), commit(2), commit(3))
    folder.replace(commit_name(2), encode(commit(2, session="11111111", previous=digest_of(b"another"))))

    with pytest.raises(ResultsError, match=r"000002\.json: it does not follow the commit before it"):
        read_log(folder)


def test_a_commit_of_another_run_takes_a_number_and_nothing_else(folder):
    """It is passed wherever it is: before the first, between two, and after the last commit of the run."""
    other = {"run": OTHER, "previous": genesis(OTHER)}
    write(folder, commit(2, part(1)), commit(5, part(2, ((5, 7),))))
    for number in (1, 3, 4, 6, 9):
        folder.replace(commit_name(number), encode(commit(number, part(number, ((8, 10),)), **other)))

    assert (5, Ranges([(0, 2), (5, 7)])) == (read_log(folder).last, read_log(folder).done())


def test_a_number_between_two_commits_that_is_of_no_run_is_missing(folder):
    """Also where another run has the number beside it."""
    write(folder, commit(1), commit(4))
    folder.replace(commit_name(2), encode(commit(2, run=OTHER)))

    with pytest.raises(ResultsError, match=r"000003\.json: it is missing, the next commit found is 000004\.json"):
        read_log(folder)


def test_a_run_json_of_another_run_is_named(folder):
    """Its commits are there, and it is not the file that they belong to."""
    write(folder, commit(1), commit(2, part(1)))
    folder.replace(NAME, encode_run_json(read_run_json(folder).model_copy(update={"id": OTHER})))

    with pytest.raises(ResultsError, match=r"run\.json: it is of another run than the commits beside it"):
        read_log(folder)


def test_a_log_begins_where_its_run_says(folder):
    """Below are the commits of runs that were moved aside, which are not even read."""
    folder.replace(NAME, encode_run_json(read_run_json(folder).model_copy(update={"log_from": 3})))
    folder.replace(commit_name(1), b"whatever")
    write(folder, commit(3, part(1)))

    assert 3 == read_log(folder).last


def test_a_run_of_format_1_goes_on_in_a_chain(folder):
    """Its commits count until the first one of format 2, which follows the last of them; a later one of theirs not."""
    document = json.loads(folder.read(NAME))
    del document["id"], document["log_from"]
    folder.replace(NAME, json.dumps(document | {"format": 1}).encode())
    old = [encode(commit(n, part(n, ((n, n + 2),)), format=1, run="", previous="")) for n in (1, 4)]
    folder.replace(commit_name(1), old[0])
    run = read_run_json(folder).id
    chain = encode(commit(2, part(2, ((4, 6),)), run=run, previous=digest_of(old[0])))
    folder.replace(commit_name(2), chain)
    folder.replace(commit_name(3), encode(commit(3, part(4, ((4, 6),)), format=1, run="", previous="")))

    assert (2, Ranges([(1, 3), (4, 6)])) == (read_log(folder).last, read_log(folder).done())


@pytest.mark.parametrize("name", [NAME, commit_name(1)])
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"format":' + b'{"a":' * 100_000, "nested too deeply"),
        (b'{"format": ' + b"9" * 10_000 + b"}", "not JSON"),
        (b'{"format": 1e999}', "its format is inf"),
    ],
)
def test_a_file_that_is_made_to_break_its_reader_is_named_in_one_line(folder, name, data, words):
    """With anything in a file, the error of reading it has its name."""
    write(folder, commit(1))
    folder.replace(name, data)

    with pytest.raises(ResultsError, match=words) as caught:
        read_log(folder)
    assert folder.where(name) in str(caught.value)
    assert ("\n" in str(caught.value), len(str(caught.value)) < 500) == (False, True)


@pytest.mark.parametrize("field", ["rows", "bytes", "number"])
def test_a_number_that_no_computer_holds_is_refused(folder, field):
    """Not a traceback of the library that is given it."""
    document = json.loads(encode(commit(1, part(1))))
    del document["sha256"]
    (document if field == "number" else document["added"][0])[field] = 10**30
    body = json.dumps(document, separators=(",", ":")).encode()[:-1]
    folder.replace(commit_name(1), body + b',"sha256":"' + digest_of(body).encode() + b'"}\n')

    with pytest.raises(ResultsError, match=r"000001\.json: "):
        read_log(folder)
