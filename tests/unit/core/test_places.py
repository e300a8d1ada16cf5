"""The line that is named is the modeller's own, whichever library raised and however it was told."""

import pytest

from modelops_ray.core.places import place_of

HEAD = "Traceback (most recent call last):\n"
LIBRARY = '  File "/env/lib/python3.12/site-packages/pandas/core/frame.py", line 99, in __getitem__\n    raise\n'
STANDARD = '  File "/usr/lib/python3.12/json/decoder.py", line 353, in decode\n'


def frame(path, line, function="simulate"):
    """A frame as Python writes it."""
    return f'  File "{path}", line {line}, in {function}\n    some(code)\n'


@pytest.mark.parametrize(
    ("traceback", "expected"),
    [
        (HEAD + frame("/m/sir.py", 12) + "KeyError: 'beta'\n", "sir.py line 12"),
        (HEAD + frame("/m/sir.py", 12) + LIBRARY + "KeyError: 'beta'\n", "sir.py line 12"),
        (HEAD + frame("/m/sir.py", 12) + frame("/m/lib/helper.py", 3, "rate") + STANDARD + "X\n", "helper.py line 3"),
        # A folder for packages of its own may lie in the model's.
        (HEAD + frame("/m/sir.py", 12) + frame("/m/env/lib/python3/dist-packages/a.py", 3) + "X\n", "sir.py line 12"),
        # What a decorator of a library calls.
        (HEAD + LIBRARY + frame("/m/sir.py", 7) + "X\n", "sir.py line 7"),
        # Checked out beside the model, and not of it.
        (HEAD + frame("/m/sir.py", 12) + frame("/src/starsim/sim.py", 400, "step") + "X\n", "sir.py line 12"),
        (HEAD + frame("/m/sir.py", 12) + frame("pandas/_libs/index.pyx", 153, "get_loc") + "X\n", "sir.py line 12"),
        (HEAD + frame("/m/sir.py", 4) + '  File "/m/a.py", line 3\n    x = =\nSyntaxError: x\n', "a.py line 3"),
        (HEAD + frame("/m/sir.py", 4) + frame("<string>", 1, "<module>") + "X\n", "sir.py line 4"),
        (HEAD + frame("/tmp/ipykernel_12/345.py", 4) + "X\n", "345.py line 4"),
        (frame("/m/sir.py", 9, "recurse") * 3 + "RecursionError: deep\n", "sir.py line 9"),
        ("it took longer than 2 s", None),
        (HEAD + LIBRARY + "KeyError: 'beta'\n", None),
        (None, None),
    ],
)  # fmt: skip
def test_the_innermost_frame_below_the_models_folder_is_named(traceback, expected):
    """Not pandas', not Python's, and not that of a package which lies elsewhere."""
    found = place_of(traceback, "sir.py:simulate")
    assert expected == (found and str(found))


def test_of_exceptions_that_led_to_each_other_the_last_is_named():
    """It is the one whose message is told."""
    first = HEAD + frame("/m/sir.py", 3) + "KeyError: 'x'\n"
    second = HEAD + frame("/m/sir.py", 5) + "ValueError: y\n"
    both = f"{first}\nDuring handling of the above exception, another exception occurred:\n\n{second}"
    assert 5 == place_of(both, "sir.py:simulate").line
    within = f"{first}\nThe above exception was the direct cause of the following exception:\n\n{HEAD}{LIBRARY}X: y\n"
    assert 3 == place_of(within, "sir.py:simulate").line


def test_a_dumped_stack_begins_with_the_innermost_frame():
    """And threads of a library's do not count."""
    dumped = (
        "Thread 0x00007f11 (most recent call first):\n"
        '  File "/usr/lib/python3.12/threading.py", line 359 in wait\n\n'
        "Current thread 0x00007f12 (most recent call first):\n"
        '  File "/usr/lib/python3.12/socket.py", line 707 in readinto\n'
        '  File "/m/sir.py", line 20 in wait_for_ever\n'
        '  File "/m/sir.py", line 31 in simulate\n'
    )
    assert ("/m/sir.py", 20, "wait_for_ever") == place_of(dumped, "sir.py:simulate")


def test_a_model_that_is_installed_is_still_the_modellers():
    """Its package is, and no other of those beside it."""
    package = "/env/lib/python3.12/site-packages/epi"
    raised = HEAD + frame(f"{package}/models/sir.py", 8) + frame(f"{package}/rates.py", 5) + LIBRARY + "X\n"
    assert "rates.py line 5" == str(place_of(raised, "epi.models.sir:simulate"))
