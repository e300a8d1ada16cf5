"""Expressions that choose parameter sets: what they mean, and what is refused."""

import pytest

from modelops_ray.errors import UsageError
from modelops_ray.study.condition import Condition

SETS = [
    {"beta": 0.1, "gamma": 1, "kind": "mild", "fast": True},
    {"beta": 0.5, "gamma": 2, "kind": "not so mild", "fast": False},
    {"beta": 0.9, "gamma": 3, "kind": "mild"},
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("beta<0.5", [0]),
        ("beta <= 0.5", [0, 1]),
        ("beta>0.5", [2]),
        ("beta >=5e-1", [1, 2]),
        ("gamma==2", [1]),
        ("gamma == 2.0", [1]),
        ("gamma!=2", [0, 2]),
        ("beta<0.9 and gamma>1", [1]),
        ("beta>0 and beta<0.9 and gamma<2", [0]),
        ("kind==mild", [0, 2]),
        ("kind == 'not so mild'", [1]),
        ('kind != "mild" and beta<1', [1]),
        ("fast==true", [0]),
        ("fast!=True", [1]),
        ("beta>2", []),
    ],
)
def test_all_comparisons_have_to_hold(text, expected):
    """A set without the parameter does not compare in any way."""
    condition = Condition.parse(text)
    condition.require_fit(SETS)

    assert expected == [at for at, params in enumerate(SETS) if condition.holds(params)]


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("", ""),
        ("beta", "beta"),
        ("beta=0.5", "beta=0.5"),
        ("beta<0.5 gamma>1", "beta<0.5 gamma>1"),
        ("beta<0.5 or gamma>1", "beta<0.5 or gamma>1"),
        ("beta<0.5 and", "beta<0.5 and"),
        ("beta<0.5 and ", ""),
        ("0.1<beta<0.5", "0.1<beta<0.5"),
        ("beta<0.5 and <2", "<2"),
        ("__import__('os')", "__import__('os')"),
    ],
)
def test_what_is_no_expression_is_refused_where_it_ends_to_be_one(text, at):
    """Nothing is evaluated; the message has the right form."""
    with pytest.raises(UsageError) as caught:
        Condition.parse(text)

    right = "write comparisons joined by `and`, as in 'beta<0.5 and gamma>1'"
    assert f"--where {text!r}: no comparison at {at!r}; {right}" == str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("betta<0.5", "no parameter set has 'betta'; did you mean beta?"),
        ("x<0.5", "no parameter set has 'x'; there are beta, fast, gamma, kind"),
        ("kind<5", "kind is to be compared with a text"),
        ("beta<high", "beta is to be compared with a number"),
        ("fast<true", "fast is to be compared with true or false by == or !="),
    ],
)
def test_what_no_set_could_meet_is_refused(text, expected):
    """A name that no set has, or a value of another kind."""
    with pytest.raises(UsageError) as caught:
        Condition.parse(text).require_fit(SETS)

    assert f"--where {text!r}: {expected}" == str(caught.value)
