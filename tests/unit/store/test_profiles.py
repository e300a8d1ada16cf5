"""Profiles add up, stay small, and a damaged one is named with the remedy."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops_ray.core.memory import bin_of, edge_of
from modelops_ray.errors import StorageError
from modelops_ray.store.profiles import MAX_BINS, Profile, load_profile, save_profile

DIGEST = "ab" * 32
MIB = 2**20
PEAKS = st.lists(st.integers(0, 2**50), max_size=30)


def measured(peaks, **facts):
    """What is kept of a session in which simulations had these peaks and took half a second each."""
    counts = Counter(edge_of(bin_of(peak)) for peak in peaks)
    return Profile(model_digest=DIGEST, samples=len(peaks), peaks=counts, seconds=0.5 * len(peaks), **facts)


def test_nothing_is_known_of_an_unknown_model(tmp_path):
    """That is no error."""
    assert Profile(model_digest=DIGEST) == load_profile(tmp_path / "none", DIGEST)


def test_a_profile_reads_back_as_it_was_saved(tmp_path):
    """Folders are made on the way."""
    profile = measured([30 * MIB, 0], base_bytes=7, written=4, payload_bytes=300, output_bytes=200)
    save_profile(tmp_path / "a" / "b", profile)

    assert profile == load_profile(tmp_path / "a" / "b", DIGEST)
    assert (
        profile.samples, profile.base_bytes, profile.seconds_per_simulation, profile.output_bytes_per_simulation,
        profile.payload_bytes_per_simulation,
    ) == (2, 7, 0.5, 50.0, 75.0)  # fmt: skip


def test_files_of_few_simulations_say_little_of_those_of_many():
    """They are mostly their own description: on disk, results take at most what they do in memory."""
    profile = measured([0], written=2, payload_bytes=100, output_bytes=9000)

    assert (50, 50) == (profile.output_bytes_per_simulation, profile.payload_bytes_per_simulation)


def test_what_an_older_version_called_the_size_on_disk_is_not_taken_for_it(tmp_path):
    """It was that in memory; what else it measured is kept."""
    old = {"format": 1, "model_digest": DIGEST, "samples": 2, "peaks": {"8": 2}, "seconds": 1.0, "output_bytes": 10**9}
    (tmp_path / f"{DIGEST}.json").write_text(json.dumps(old))
    profile = load_profile(tmp_path, DIGEST)

    assert (2, {8: 2}, 0.5) == (profile.samples, profile.peaks, profile.seconds_per_simulation)
    assert (None, None) == (profile.output_bytes_per_simulation, profile.payload_bytes_per_simulation)


def test_an_empty_profile_has_no_means():
    """Neither zero nor an error."""
    empty = Profile(model_digest=DIGEST)

    assert (None, None) == (empty.seconds_per_simulation, empty.output_bytes_per_simulation)


@given(PEAKS, PEAKS)
def test_merging_is_measuring_all_at_once(left, right):
    """In either order."""
    merged = measured(left).merged(measured(right))

    assert measured(left + right) == merged == measured(right).merged(measured(left))


def test_the_later_base_counts():
    """It was another level of isolation before, or another machine."""
    left, right = measured([1], base_bytes=9, written=1), measured([1], base_bytes=5, written=2)

    assert (left.merged(right).base_bytes, left.merged(right).written) == (5, 3)


def test_a_histogram_stays_small_and_keeps_the_large():
    """The smallest bins are joined, nothing is dropped."""
    profile = measured([])
    for index in range(MAX_BINS + 50):
        profile = profile.merged(Profile(model_digest=DIGEST, samples=1, peaks={edge_of(index): 1}))

    assert [edge_of(index) for index in range(50, MAX_BINS + 50)] == sorted(profile.peaks)
    assert (profile.peaks[edge_of(50)], sum(profile.peaks.values())) == (51, MAX_BINS + 50)


def test_profiles_of_two_models_do_not_mix():
    """That would be an error of the caller."""
    with pytest.raises(ValueError, match="two models"):
        Profile(model_digest=DIGEST).merged(Profile(model_digest="cd" * 32))


HUGE = "1" + "0" * 400


@pytest.mark.parametrize(
    "text",
    [
        "", "{", '{"model_digest": 3}', '{"format": 2, "model_digest": "ab"}',
        *(f'{{"format": 2, "model_digest": "{DIGEST}", "{key}": {HUGE}}}' for key in ("samples", "base_bytes")),
        f'{{"format": 2, "model_digest": "{DIGEST}", "peaks": {{"{HUGE}": 1}}}}',
    ],
)  # fmt: skip
def test_a_damaged_profile_is_named_with_the_remedy(tmp_path, text):
    """It costs a measurement, not a study."""
    (tmp_path / f"{DIGEST}.json").write_text(text)

    with pytest.raises(StorageError, match=rf"{DIGEST}\.json: .*delete it"):
        load_profile(tmp_path, DIGEST)


def test_a_profile_of_another_model_is_not_used(tmp_path):
    """A user renamed it."""
    save_profile(tmp_path, Profile(model_digest="cd" * 32))
    (tmp_path / f"{'cd' * 32}.json").rename(tmp_path / f"{DIGEST}.json")

    with pytest.raises(StorageError, match="it is of model cdcdcdcdcdcd; delete it"):
        load_profile(tmp_path, DIGEST)


def test_a_digest_cannot_leave_the_folder(tmp_path):
    """It becomes a file name."""
    with pytest.raises(ValueError, match="not a digest"):
        load_profile(tmp_path, "../../etc/passwd")
