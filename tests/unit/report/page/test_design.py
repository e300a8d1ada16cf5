"""Parameter values are grouped so that a plot can show them, and a few sets stand for many."""

import pyarrow as pa

from modelops_ray.report.page.design import design_of


def design(**parameters):
    """The design of one simulation per parameter set."""
    n = len(next(iter(parameters.values())))
    columns = {f"param_{name}": values for name, values in parameters.items()}
    return design_of(pa.table({"param_id": [str(at) for at in range(n)]} | columns))


def levels(values, most, **how):
    """The groups of one parameter: their names, and of each set its group."""
    found = design(x=values).parameters[0].levels(most, **how)
    return list(found.names), found.of_set.tolist()


def test_a_few_values_are_a_group_each():
    """In their order, whatever the order of the sets."""
    assert (["0.1", "0.5", "2"], [2, 0, 1]) == levels([2.0, 0.1, 0.5], 5)


def test_of_the_many_values_of_a_grid_a_few_are_shown():
    """The least, the largest and some between; sets with others are in no group."""
    names, of_set = levels([float(at // 8) for at in range(80)], 4)

    assert ["0", "3", "6", "9"] == names
    assert {-1, 0, 1, 2, 3} == set(of_set)


def test_values_that_each_set_has_for_itself_are_put_into_ranges():
    """So that each set is in a group."""
    names, of_set = levels([at / 100 for at in range(100)], 5)

    assert ["0 to 0.19", "0.2 to 0.39"] == names[:2]
    assert [20] * 5 == [of_set.count(group) for group in range(5)]


def test_ranges_cover_a_grid_where_all_of_it_is_to_be_shown():
    """Failures between the shown values would be missed."""
    names, of_set = levels([float(at // 8) for at in range(80)], 4, is_to_cover=True)

    assert 4 == len(names)
    assert -1 not in of_set


def test_texts_and_truth_values_are_levels():
    """By their words."""
    assert (["high", "low"], [0, 1, 0]) == levels(["high", "low", "high"], 5)
    assert (["True", "False"], [0, 1]) == levels([True, False], 5)


def test_a_parameter_that_a_set_does_not_have_puts_it_into_no_group():
    """As where another kind of intervention has other parameters."""
    assert (["1", "2"], [0, -1, 1]) == levels([1.0, None, 2.0], 5)


def test_a_parameter_with_one_value_is_told_and_not_drawn():
    """It is the same everywhere."""
    found = design(x=[1.0, 2.0], y=[7, 7])

    assert ["x"] == [each.name for each in found.parameters]
    assert (("y", "7"),) == found.constants


def test_the_sets_that_stand_for_all_are_far_apart():
    """The corners of a grid are among them."""
    found = design(x=[at // 10 for at in range(100)], y=[at % 10 for at in range(100)])
    chosen = found.spread(9)

    assert 9 == len(chosen)
    assert {0, 9, 90, 99} <= set(chosen)


def test_sets_that_differ_in_spelling_only_can_be_chosen():
    """1 and 1.0 are two sets of one value."""
    assert [0, 1] == design(x=[1.0, 1.0, 1.0]).spread(2)
