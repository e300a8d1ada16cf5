"""Peaks of known size, one after the other, and where the kernel does not help."""

from __future__ import annotations

import time
import weakref
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from modelops_ray.sandbox import measure
from modelops_ray.sandbox.measure import ExactMeter, SampledMeter, peak_meter, private_bytes, release_memory

pytestmark = pytest.mark.usefixtures("nothing_to_reuse")

MIB = 2**20
BLOCK_BYTES = 1000
RESULTS = []


class Cycle:
    """Something only the garbage collector can free."""


def use(size_bytes):
    """Allocate and touch memory, and let go of it."""
    return int(np.ones(size_bytes, dtype=np.uint8)[-1])


def use_small_objects(size_bytes):
    """Fill the heap with objects too small for a mapping of their own, and let go of all but the last.

    It is that one which keeps the heap from shrinking by itself.
    """
    blocks = [bytes(BLOCK_BYTES) for _ in range(size_bytes // BLOCK_BYTES)]
    RESULTS.append(blocks[-1])


def peaks_of_small_objects(sizes_bytes):
    """Measure one use of the heap after the other in this process."""
    with ExactMeter() as meter:
        return [peak_of(meter, use_small_objects, size_bytes) for size_bytes in sizes_bytes]


def in_a_fresh_process(work, *args):
    """Do it where the heap has no holes of earlier tests, which would be filled unseen."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        return fresh.submit(work, *args).result()


def peak_of(meter, work, *args):
    """Measure one piece of work."""
    meter.begin()
    work(*args)
    return meter.peak_bytes()


@pytest.fixture
def meter():
    """An exact meter of this process."""
    with ExactMeter() as meter:
        yield meter


def test_the_peak_is_what_was_touched(meter):
    """50 MB touched and freed again are 50 MB."""
    assert pytest.approx(peak_of(meter, use, 50 * 10**6), abs=2 * MIB) == 50 * 10**6


def test_twice_the_same_is_twice_the_same():
    """The second of two equal simulations does not look cheaper than the first."""
    peaks = in_a_fresh_process(peaks_of_small_objects, [50 * MIB] * 2)

    assert peaks[0] == pytest.approx(peaks[1], abs=10 * MIB)


def test_a_small_one_after_a_large_one_is_small(meter):
    """The mark is reset: the peak before does not show."""
    peak_of(meter, use, 80 * MIB)

    assert peak_of(meter, use, 5 * MIB) < 8 * MIB


def test_a_large_heap_that_was_kept_does_not_hide_the_next_need():
    """Freed small objects go back to the system before the next baseline."""
    peaks = in_a_fresh_process(peaks_of_small_objects, [60 * MIB, 30 * MIB])

    assert peaks[1] > 20 * MIB


def test_small_peaks_do_not_creep_out_of_sight():
    """Simulations that each need a little more than the one before are measured whole, or nearly."""
    peaks = in_a_fresh_process(peaks_of_small_objects, [size * MIB for size in range(6, 60, 6)])

    assert peaks[-1] > 35 * MIB


def test_garbage_in_cycles_is_collected_before_the_next_baseline(meter):
    """A model that leaves cycles behind is measured from the floor each time."""

    def leave_a_cycle():
        cycle = [np.ones(40 * MIB, dtype=np.uint8)]
        cycle.append(cycle)

    peaks = [peak_of(meter, leave_a_cycle) for _ in range(3)]

    assert [pytest.approx(40 * MIB, abs=3 * MIB)] * 3 == peaks


def test_nothing_is_nearly_nothing_and_never_negative(meter):
    """A simulation that only frees memory has no peak."""
    held = [np.ones(20 * MIB, dtype=np.uint8)]

    assert 0 <= peak_of(meter, held.clear) < MIB


def test_measuring_is_cheap(meter):
    """The cost is printed, not asserted: the machine may be busy."""
    started_s = time.perf_counter()
    for _ in range(1000):
        meter.begin()
        peak_bytes = meter.peak_bytes()

    print(f"measuring takes {(time.perf_counter() - started_s) * 1000:.1f} us")  # noqa: T201
    assert 0 <= peak_bytes < MIB


def test_where_the_mark_cannot_be_reset_memory_is_sampled(tmp_path):
    """Without clear_refs a thread looks, and still sees what lasts."""

    def hold_for_a_while():
        held = np.ones(50 * MIB, dtype=np.uint8)
        until_s = time.monotonic() + 0.1
        while time.monotonic() < until_s:
            held[0] = 1

    with peak_meter(tmp_path) as meter:
        peaks = [peak_of(meter, hold_for_a_while), peak_of(meter, use, MIB)]

    assert isinstance(meter, SampledMeter)
    assert peaks[0] == pytest.approx(50 * MIB, abs=3 * MIB)
    assert peaks[1] < 8 * MIB


def test_a_kernel_that_refuses_the_reset_leaves_no_file_open(tmp_path):
    """A clear_refs that cannot be written to is closed again."""
    (tmp_path / "clear_refs").symlink_to("/dev/full")

    with pytest.raises(OSError, match="No space left"):
        ExactMeter(tmp_path)


def test_private_memory_grows_by_what_is_allocated():
    """Touched memory is private memory."""
    before_bytes = private_bytes()
    held = np.ones(30 * MIB, dtype=np.uint8)

    assert pytest.approx(private_bytes() - before_bytes, abs=3 * MIB) == 30 * MIB
    assert held[0] == 1


def test_without_smaps_rollup_resident_memory_stands_in(tmp_path):
    """Resident memory is an upper bound of private memory."""
    assert private_bytes(proc=tmp_path) >= private_bytes() > MIB


def test_a_c_library_without_trim_is_served(monkeypatch):
    """On musl there is nothing to call, and garbage is collected all the same."""
    monkeypatch.setattr(measure, "_malloc_trim", None)
    cycle = Cycle()
    cycle.itself = cycle
    alive = weakref.ref(cycle)
    del cycle

    release_memory()

    assert alive() is None
