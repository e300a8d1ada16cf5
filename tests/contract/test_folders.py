"""One suite for every place a run can be kept in: file systems and object stores promise the same."""

import secrets
import threading
from collections import Counter

import pytest
from support.stores import attempts, failure, grid, open_store, payload

from modelops_ray.errors import ModelopsRayError, RunInUseError
from modelops_ray.store.reader import RunReader
from modelops_ray.store.storage.places import open_folder

FIRST = "_commits/000001.json"
STUDY = grid(4, 5)

pytestmark = pytest.mark.parametrize("new_place", ["local", "s3", "azure"], indirect=True)


@pytest.fixture
def folder(new_place):
    """A folder that is not there yet, nor the one above it."""
    return open_folder(new_place("run"))


def test_a_file_reads_back_with_its_size(folder):
    """By its name, and in the listings of its folder and of the one above."""
    folder.replace("a/b", b"text")

    assert (b"text", 4, {"b": 4}) == (folder.read("a/b"), folder.size("a/b"), folder.sizes("a"))
    assert (["b"], ["a"]) == (folder.names("a"), folder.names())


def test_what_is_not_there_is_none(folder):
    """Not an error, and not empty."""
    folder.replace("a/b", b"")

    assert (None, None, [], {}) == (folder.read("c"), folder.size("c"), folder.names("c"), folder.sizes("c"))
    assert (b"", 0, None) == (folder.read("a/b"), folder.size("a/b"), folder.size("a"))


def test_a_file_may_have_any_name_that_an_output_has(folder):
    """Outputs are named by modellers."""
    odd = ["100%", "a b", "c#d?e", "naïve", "x+y=z", "~%2F"]
    for name in odd:
        folder.replace(f"outputs/{name}/part", name.encode())

    assert sorted(odd) == folder.names("outputs")
    assert [name.encode() for name in odd] == list(folder.read_all(f"outputs/{name}/part" for name in odd))


def test_many_files_are_read_in_order(folder):
    """Those that are not there too."""
    for number in range(20):
        folder.replace(str(number), str(number).encode())

    names = [str(number) for number in range(19, -1, -1)]
    assert [name.encode() for name in names] + [None] == list(folder.read_all([*names, "none"]))


def test_removing_what_is_gone_is_fine(folder):
    """Cleaning up can be repeated."""
    folder.replace("a", b"")
    folder.remove("a")
    folder.remove("a")

    assert [] == folder.names()


def test_a_file_of_many_pieces_is_whole(folder):
    """Its size and digest are those of what was written; what was there before is gone."""
    folder.replace("part", b"old")
    piece = secrets.token_bytes(2**20)

    written = folder.write("part", lambda sink: [sink.write(piece) for _ in range(9)])

    found = folder.read("part")
    assert (9 * piece, written.size_bytes) == (found, len(found))
    assert written == folder.write("again", lambda sink: sink.write(found))


def test_a_file_that_could_not_be_filled_is_not_there(folder):
    """A reader sees all of it or nothing."""

    def fill(sink):
        sink.write(b"x" * 2**21)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folder.write("part", fill)

    assert (None, [], []) == (folder.read("part"), folder.names(), folder.leftovers())


def test_a_taken_name_is_left_alone(folder):
    """The second one is told, and changes nothing."""
    assert [True, False] == [folder.create("a", b"1"), folder.create("a", b"2")]
    assert (b"1", []) == (folder.read("a"), folder.leftovers())


def test_of_many_that_create_one_file_exactly_one_is_told_that_it_did(new_place):
    """And the file is its own."""
    won = []

    def create(writer, barrier):
        own = open_folder(new_place("run"))
        for number in range(8):
            barrier.wait()
            if own.create(str(number), str(writer).encode()):
                won.append((str(number), str(writer).encode()))

    barrier = threading.Barrier(6)
    threads = [threading.Thread(target=create, args=(writer, barrier)) for writer in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {str(number): 1 for number in range(8)} == Counter(name for name, _ in won)
    assert all(data == open_folder(new_place("run")).read(name) for name, data in won)


HEAD = "run.json"


def stub():
    """What stays of a folder that cannot be renamed."""
    return b"moved"


def test_a_folder_that_is_moved_aside_is_whole_under_its_other_name(new_place):
    """What was its head is no longer there, or a stub."""
    folder = open_folder(new_place("run"))
    folder.create(FIRST, b"1")
    folder.replace(HEAD, b"{}")
    folder.replace("outputs/x/part", b"rows")
    before = folder.mark(HEAD)

    folder.move_aside(".old-1", {HEAD: folder.mark(HEAD)}, stub)

    assert folder.read(HEAD) in {None, b"moved"}
    assert before != folder.mark(HEAD)
    moved = open_folder(new_place("run.old-1"))
    assert (b"1", b"{}", b"rows") == tuple(moved.read_all([FIRST, HEAD, "outputs/x/part"]))


def test_a_name_that_is_taken_gets_a_number(new_place):
    """Two runs that are moved aside within one second are two."""
    for number in range(3):
        folder = open_folder(new_place("run"))
        folder.replace(HEAD, str(number).encode())
        folder.move_aside(".old-1", {HEAD: folder.mark(HEAD)}, stub)

    aside = [open_folder(new_place(f"run.old-1{number}")).read(HEAD) for number in ("", "-2", "-3")]
    assert [b"0", b"1", b"2"] == aside


def test_a_file_has_its_mark_until_another_one_has_its_name(folder):
    """What a session compares is not changed by the session."""
    folder.create(HEAD, b"1")
    data, before = folder.read_marked(HEAD)
    folder.create("_commits/000002.json", b"2")

    assert (b"1", before) == (data, folder.mark(HEAD))
    folder.replace(HEAD, b"3")
    assert folder.mark(HEAD) not in {None, before}
    assert (None, None) == (folder.mark("none"), folder.read_marked("none"))


def test_a_file_is_exchanged_for_what_it_was_only(folder):
    """Of two that saw the same one is told, and a file that has gone is not made again."""
    folder.replace(HEAD, b"0")
    mark = folder.mark(HEAD)

    assert [True, False] == [folder.exchange(HEAD, mark, b"1"), folder.exchange(HEAD, mark, b"2")]
    assert b"1" == folder.read(HEAD)
    mark = folder.mark(HEAD)
    folder.remove(HEAD)
    assert (False, None) == (folder.exchange(HEAD, mark, b"3"), folder.read(HEAD))


def test_a_run_goes_from_its_first_session_to_its_last(new_place):
    """Results, failures, attempts without a result, columns that widen and failures that are repeated."""
    place = new_place("run")
    store = open_store(place, STUDY)
    store.commit([payload(STUDY, range(8), lambda _: {"o": {"x": [1]}})], [failure(9)], [attempts([9, 7])])
    store.close("stopped")
    store = open_store(place, STUDY, retry_failed=True)
    assert {9: 1} == store.attempts_made()
    rest = [position for position in range(20) if position not in store.done()]
    store.commit([payload(STUDY, rest, lambda each: {"o": {"x": [each.position / 2]}})], [])
    store.close("complete")

    reader = RunReader(place)
    assert [1.0] * 8 + [position / 2 for position in range(8, 20)] == reader.output("o")["x"].to_pylist()
    assert ["completed"] * 20 == reader.simulations()["status"].to_pylist()
    assert reader.simulations()["task_id"].take([7, 9]).to_pylist() == reader.attempts()["task_id"].to_pylist()
    live = {part.path for part in reader.log().parts.values()}
    folder = open_folder(place)
    assert live == {f"{at}/{name}" for at in ("simulations", "attempts", "outputs/o") for name in folder.names(at)}


def test_two_sessions_cannot_both_commit(new_place):
    """The one that was there first is fenced by the opening commit of the other; nothing counts twice."""
    place = new_place("run")
    first = open_store(place, STUDY)
    second = open_store(place, STUDY, take_over=True)
    second.commit([payload(STUDY, range(5))], [])
    with pytest.raises(RunInUseError, match="has taken over this run directory"):
        first.commit([payload(STUDY, range(5))], [])

    assert 5 == RunReader(place).simulations().num_rows
    assert 2 == len([*open_folder(place).names("simulations"), *open_folder(place).names("outputs/incidence")])


def test_what_a_killed_session_left_of_attempts_is_seen_by_no_reader_and_removed(new_place):
    """A part that no commit names, and the table of a run that is moved aside."""
    place = new_place("run")
    store = open_store(place, STUDY)
    store.commit([payload(STUDY, [0])], [], [attempts([3])])
    folder = open_folder(place)
    [part] = folder.names("attempts")
    folder.replace("attempts/part-0123abcd-1.parquet", folder.read(f"attempts/{part}"))
    assert 1 == RunReader(place).attempts().num_rows

    open_store(place, STUDY, take_over=True)
    assert [part] == folder.names("attempts")
    open_store(place, STUDY, take_over=True, fresh=True).close("stopped")
    assert 0 == RunReader(place).attempts().num_rows
    assert [] == open_folder(place).names("attempts")


def test_a_run_that_was_moved_aside_is_not_written_by_its_old_session(new_place):
    """It finds another run in its place."""
    place = new_place("run")
    first = open_store(place, STUDY)
    open_store(place, STUDY, take_over=True, fresh=True).commit([payload(STUDY, [3])], [])
    with pytest.raises(RunInUseError, match="moved or removed while this session wrote it"):
        first.commit([payload(STUDY, range(5))], [])

    assert 1 == RunReader(place).simulations().num_rows


def test_of_sessions_that_fight_for_a_run_every_result_counts_once(new_place):
    """Each takes it over from the others, again and again, until all is done."""
    place = new_place("run")
    barrier = threading.Barrier(3)
    errors = []

    def fight():
        barrier.wait()
        for _ in range(30):
            try:
                store = open_store(place, STUDY, take_over=True)
                for position in range(20):
                    if position not in store.done():
                        store.commit([payload(STUDY, [position])], [])
            except ModelopsRayError as error:  # the others also sweep away what it is just writing
                errors.append(error)
            else:
                return

    threads = [threading.Thread(target=fight) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    open_store(place, STUDY, take_over=True).close("complete")

    rows = RunReader(place).simulations()["task_id"].to_pylist()
    assert len(rows) == len(set(rows)) == RunReader(place).output("incidence").num_rows / 3
    assert errors
