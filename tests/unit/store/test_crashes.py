"""Commits, wider columns, retries and kills in any order: nothing is lost, nothing counts twice."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from support.stores import Clock, DiedError, attempts, dying, failure, grid, open_store, payload, task_ids

from modelops_ray.store.reader import RunReader
from modelops_ray.study.simulations import Simulations

STUDY = grid(3, 4)
N = 12
POSITION = {(each.param_id, each.seed): each.position for each in Simulations(STUDY)}
PLACE = {task_id: position for position, task_id in enumerate(task_ids(STUDY))}
NEVER = 10**9
NOTHING = (frozenset(), frozenset(), frozenset())

SESSION = st.fixed_dictionaries(
    {
        "results": st.lists(st.integers(0, N - 1), unique=True, max_size=6),
        "failures": st.lists(st.integers(0, N - 1), unique=True, max_size=2),
        "lost": st.lists(st.integers(0, N - 1), unique=True, max_size=2),
        "retry_failed": st.booleans(),
        "dies_after": st.just(NEVER) | st.integers(0, 60),
    }
)


def rows(position):
    """Columns that begin as null or whole numbers, and widen sooner or later."""
    return [[None], [position, 1], [position / 4], []][position % 4]


class Run:
    """A run directory and the states it may be in: what is completed, what failed, and the attempts without a result.

    Of these, pairs of position and number.
    """

    def __init__(self, path):
        self.path = path
        self.clock = Clock()
        self.allowed = [NOTHING]

    def play(self, session):
        """Begin, commit, end, unless it dies on the way; then look."""
        self.clock.advance(60)
        try:
            with dying(session["dies_after"]):
                self.work(session)
            self.allowed = self.allowed[-1:]
        except DiedError:
            pass
        found = self.found()
        assert found in self.allowed
        self.allowed = [found]

    def work(self, session):
        """Go through a session, and say before each step what it may lead to."""
        completed, failed, vain = self.allowed[-1]
        if session["retry_failed"]:
            failed = frozenset()
            self.allowed.append((completed, failed, vain))
        store = open_store(self.path, STUDY, clock=self.clock, retry_failed=session["retry_failed"])
        assert (len(completed), len(failed)) == (store.completed, store.failed)
        assert sorted(completed | failed) == list(store.done())
        self.allowed = self.allowed[-1:]

        results = [each for each in session["results"] if each not in completed | failed]
        failures = [each for each in session["failures"] if each not in completed | failed | set(results)]
        made = store.attempts_made()
        assert {at: max(n for each, n in vain if each == at) for at, _ in vain if at not in completed | failed} == made
        lost = [each for each in session["lost"] if each not in completed | failed | set(failures)]
        numbered = [(at, made.get(at, 0) + 1) for at in lost + failures]
        self.allowed.append((completed | set(results), failed | set(failures), vain | set(numbered)))
        chunks = [payload(STUDY, results[at : at + 2], _model) for at in range(0, len(results), 2)]
        told = [attempts([at], n) for at, n in numbered]
        assert () == store.commit(chunks, [failure(at) for at in failures], told)
        self.allowed = self.allowed[-1:]
        store.close("stopped")

    def found(self):
        """What a reader sees, every value checked."""
        if not (self.path / "run.json").exists():
            return NOTHING
        reader = RunReader(self.path)
        table = reader.simulations().to_pylist()
        positions = [POSITION[row["param_id"], row["seed"]] for row in table]
        assert sorted(set(positions)) == positions
        failed = {at for at, row in zip(positions, table, strict=True) if row["status"] == "failed"}
        completed = [at for at in positions if at not in failed]
        if "o" in reader.output_names():
            output = reader.output("o")
            keys = zip(output["param_id"].to_pylist(), output["seed"].to_pylist(), strict=True)
            found = list(zip((POSITION[key] for key in keys), output["x"].to_pylist(), strict=True))
            assert [(at, value) for at in completed for value in rows(at)] == found
        table = reader.attempts().to_pylist()
        vain = [(PLACE[row["task_id"]], row["attempt"]) for row in table]
        assert len(set(vain)) == len(vain)
        return frozenset(completed), frozenset(failed), frozenset(vain)

    def files(self):
        """Names of all parts on disk."""
        return {str(each.relative_to(self.path)) for each in self.path.rglob("*") if each.is_file()}


def _model(simulation):
    return {"o": {"x": rows(simulation.position)}}


@settings(max_examples=25, deadline=None)
@given(st.lists(SESSION, min_size=1, max_size=6))
def test_a_run_is_always_in_the_last_committed_state(sessions):
    """Before, during and after kills at any change to the file system."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder) / "run")
        for session in sessions:
            run.play(session)

        rest = {"results": list(range(N)), "failures": [], "lost": [], "retry_failed": True, "dies_after": NEVER}
        run.play(rest)
        assert run.found()[:2] == (frozenset(range(N)), frozenset())
        _assert_only_committed_parts(run)


def _assert_only_committed_parts(run):
    """After a proper end the folders hold what the log names, and no leftovers."""
    live = {part.path for part in RunReader(run.path).log().parts.values()}
    others = {name for name in run.files() if not name.startswith("_commits/")} - {"run.json", "progress.json"}
    assert live == others


def test_every_single_step_of_a_widening_commit_may_be_the_last(tmp_path):
    """The widest commit there is: new parts, failures, attempts, widened parts, retractions."""
    after, died = 0, True
    while died:
        run = Run(tmp_path / str(after))
        run.play({"results": [1, 5], "failures": [0], "lost": [2], "retry_failed": False, "dies_after": NEVER})
        session = {"results": [2, 3, 6], "failures": [4], "lost": [3], "retry_failed": True, "dies_after": after}
        run.play(session)
        died = run.allowed[0][0] != {1, 2, 3, 5, 6} or not _ended(run)
        after += 1
    assert after > 40


def _ended(run):
    return RunReader(run.path, run.clock).status().ending == "stopped"
