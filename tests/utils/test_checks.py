"""What a user gives is checked, and a sentence says what to type instead."""

import re

import pytest

from prunelab.utils.checks import check_choice, check_whole, did_you_mean

NAMES = ("smallest", "largest", "random")


def test_the_nearest_name_is_proposed():
    assert did_you_mean("smalest", NAMES) == "; did you mean 'smallest'? "
    assert did_you_mean("randon", iter(NAMES)) == "; did you mean 'random'? "
    assert did_you_mean("zzz", NAMES) == ". "
    assert did_you_mean(3, NAMES) == ". "
    assert did_you_mean("smalest", ()) == ". "


def test_how_near_a_name_must_be():
    assert did_you_mean("rand", NAMES, cutoff=0.8) == "; did you mean 'random'? "  # 2 · 4 / 10
    assert did_you_mean("rand", NAMES, cutoff=0.81) == ". "


@pytest.mark.parametrize("name", NAMES)
def test_a_choice_is_given_back(name):
    assert check_choice("order", name, NAMES) == name
    assert check_choice("order", name, iter(NAMES)) == name
    assert check_choice("order", name, dict.fromkeys(NAMES, 1)) == name


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("smalest", "unknown order 'smalest'; did you mean 'smallest'? Known: "),
        ("Random", "unknown order 'Random'; did you mean 'random'? Known: "),  # case is told apart
        ("zzz", "unknown order 'zzz'. Known: "),
        ("", "unknown order ''. Known: "),
        (None, "unknown order None. Known: "),
        (7, "unknown order 7. Known: "),
    ],
)
def test_an_unknown_choice(given, sentence):
    whole = re.escape(sentence + "smallest, largest, random")
    with pytest.raises(ValueError, match=f"^{whole}$"):
        check_choice("order", given, NAMES)


@pytest.mark.parametrize(
    ("given", "bounds"),
    [
        (1, {}),
        (10**30, {}),
        (0, {"least": 0}),
        (-3, {"least": -3}),
        (2, {"least": 2, "most": 5}),
        (5, {"least": 2, "most": 5}),
    ],
)
def test_whole_numbers(given, bounds):
    assert check_whole("rounds", given, **bounds) is None


@pytest.mark.parametrize("given", [0, -1, 1.0, 1.5, float("nan"), "3", None, [1], True, False])
def test_what_is_no_whole_number(given):
    sentence = re.escape(f"rounds must be a whole number, 1 or more; got {given!r}")
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        check_whole("rounds", given)


@pytest.mark.parametrize("given", [0, 61, 60.0, True])
def test_what_is_out_of_bounds(given):
    sentence = "digits must be a whole number from 1 to 60 (there are 60); got "
    with pytest.raises(ValueError, match=f"^{re.escape(sentence + repr(given))}$"):
        check_whole("digits", given, most=60, why="there are 60")


def test_zero_where_it_is_allowed_and_no_less():
    with pytest.raises(ValueError, match=r"^epochs must be a whole number, 0 or more; got -1$"):
        check_whole("epochs", -1, least=0)
    for given in (False, True):  # though Python counts them as 0 and 1
        with pytest.raises(ValueError, match=f"0 or more; got {given}$"):
            check_whole("epochs", given, least=0)
