"""A check says what it finds, whatever a student wrote."""

import pytest
import torch

from prunelab.exercises import verdict
from prunelab.exercises.verdict import Wrong, exercise


@exercise
def check_double(answer, number: int) -> str:
    """Fill in the double of the number."""
    if verdict.take_number(answer) != 2 * number:
        raise Wrong("That is not the double.")
    return "Doubling is adding to itself."


def test_right_wrong_and_empty():
    assert repr(check_double(6, 3)) == "Right. Doubling is adding to itself."
    assert repr(check_double(5, 3)) == "Not yet. That is not the double."
    for empty in (..., None):
        found = check_double(empty, 3)
        assert repr(found) == "Nothing is filled in yet. Fill in the double of the number."
        assert found.right is None
    assert check_double(6, 3)
    assert not check_double(5, 3)
    assert not check_double(..., 3)


def test_a_tensor_of_one_number_is_a_number():
    assert check_double(torch.tensor(6), 3)


@pytest.mark.parametrize("answer", ["six", [6], {}, True, torch.zeros(2), lambda: 6, object])
def test_nonsense_is_named(answer):
    found = check_double(answer, 3)
    assert found.right is False
    assert "a number is asked for" in found.text


def test_a_function_of_a_student():
    assert verdict.call(lambda x: x + 1, 1) == 2
    with pytest.raises(Wrong, match="a function is asked for"):
        verdict.call(3)
    with pytest.raises(Wrong, match="raised ZeroDivisionError: division by zero"):
        verdict.call(lambda: 1 / 0)
    with pytest.raises(Wrong, match="does it end in `return`"):
        verdict.call(lambda: None)


def test_tensors_names_and_ratios():
    assert torch.equal(verdict.take_tensor([1, 2], (2,)), torch.tensor([1.0, 2.0]))
    with pytest.raises(Wrong, match=r"has the shape \(2,\); it should be \(3,\)"):
        verdict.take_tensor([1, 2], (3,))
    with pytest.raises(Wrong, match="a tensor is asked for"):
        verdict.take_tensor("norms", (3,))
    assert verdict.take_names("conv_1, conv_3") == {"conv_1", "conv_3"}
    assert verdict.take_names(["conv_1"]) == {"conv_1"}
    with pytest.raises(Wrong, match="a list of names"):
        verdict.take_names(3)
    assert verdict.take_ratios({"conv_2": 0.5, "*": 0}) == {"conv_2": 0.5, "*": 0.0}
    with pytest.raises(Wrong, match="a number is asked for"):
        verdict.take_ratios({"conv_2": "half"})
    with pytest.raises(Wrong, match="a dict"):
        verdict.take_ratios(0.5)
