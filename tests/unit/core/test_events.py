"""Events and actions are values: what happened cannot be changed, and time is in it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from typing import get_args

import pytest

from modelops_ray.core.events import Action, Capacity, Event, Node, Ticked
from modelops_ray.core.reasons import Reason


@pytest.mark.parametrize("kind", get_args(Event))
def test_every_event_begins_with_its_time(kind):
    """The core has no clock."""
    assert "now_s" == fields(kind)[0].name


@pytest.mark.parametrize("kind", [*get_args(Event), *get_args(Action), *get_args(Reason)])
def test_no_event_action_or_reason_can_be_changed(kind):
    """The story keeps them, and tells later what they were."""
    made = kind(*[None] * len(fields(kind)))
    with pytest.raises(FrozenInstanceError):
        setattr(made, fields(kind)[0].name, 1.0)


def test_what_the_autoscaler_says_makes_no_other_capacity():
    """The window is not computed anew for a sentence."""
    nodes = (Node(4.0, 2**30),)
    assert Capacity(nodes, says="busy") == Capacity(nodes)
    assert Ticked(1.0) != Ticked(2.0)
