"""Checks of notebook 07: widths rounded up, and the part of the time that shrinks."""

import pandas as pd
import pytest

from prunelab import exercises, findings

RECIPE = "resnet56-pruned-b"
# README of the paper's facts, and the table of alignments that `make_plan` and `total_cost` give
PLAIN, BY_8, WHOLE = 90_907_264, 100_713_088, 125_485_696


def test_aligned_flops_right():
    found = exercises.check_aligned_flops({8: BY_8, 16: WHOLE}, RECIPE)
    assert found
    assert "Rounded up to 16, every layer is as wide as before" in found.text
    assert "27.6 %" in found.text


def test_aligned_flops_of_a_network_that_is_aligned_already():
    assert exercises.check_aligned_flops({8: 206_279_680, 16: 206_279_680}, "vgg16-pruned-a")


def widths_of_first_convs(*widths):
    """Multiply-adds of ResNet-56-B, counted by hand, with other widths of its pruned convs.

    widths: of those in the three stages, which keep 6 of 16, 22 of 32 and 57 of 64.
    """
    kept = [7, 7, 7]  # blocks that are pruned, of 9 in each stage
    saved = 0
    for stage, (width, blocks) in enumerate(zip(widths, kept, strict=True)):
        full, side = 16 * 2**stage, 32 // 2**stage
        # first conv: full × width, second: width × full
        saved += blocks * 2 * 9 * full * (full - width) * side**2
    return WHOLE - saved


def test_the_count_by_hand_is_that_of_the_plan():
    blocks = {PLAIN: (6, 22, 57), BY_8: (8, 24, 64), WHOLE: (16, 32, 64)}
    for flops, widths in blocks.items():
        assert widths_of_first_convs(*widths) == flops


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({8: PLAIN, 16: WHOLE}, "nothing is rounded"),
        ({8: WHOLE, 16: WHOLE}, "this is the whole network"),
        ({8: widths_of_first_convs(1, 16, 56), 16: WHOLE}, "rounded down here. That takes"),
        ({8: widths_of_first_convs(8, 16, 56), 16: WHOLE}, "to one multiple at least"),
        ({8: widths_of_first_convs(8, 24, 56), 16: WHOLE}, "to the nearest multiple"),
        ({8: BY_8, 16: widths_of_first_convs(16, 16, 64)}, "For multiples of 16"),
        ({8: 2 * BY_8, 16: WHOLE}, "a multiply-add counts once"),
        ({8: 100.7, 16: 125.5}, "no number of multiply-adds"),
        ({8: BY_8 + 1, 16: WHOLE}, "more than it computes"),
        ({8: BY_8 - 1, 16: WHOLE}, "fewer than it computes"),
        ({8: BY_8, 16: WHOLE + 1}, "more than the whole network"),
        ({8: "many", 16: WHOLE}, "a number is asked for"),
        ({8: BY_8}, "a number for each alignment"),
        ({8: ..., 16: ...}, "not filled in yet"),
        (BY_8, "A dict"),
    ],
)
def test_aligned_flops_wrong(answer, said):
    found = exercises.check_aligned_flops(answer, RECIPE)
    assert found.right is False
    assert said in found.text


def test_empty_answers():
    assert exercises.check_aligned_flops(..., RECIPE).right is None
    assert exercises.check_time_left(...).right is None


def test_time_left_right():
    found = exercises.check_time_left(lambda share, left: 1 - share * (1 - left))
    assert found
    frame = pd.DataFrame({"recipe": ["a", "a", "b"], "flops_left": [1.0, 0.5, 0.5]})
    told = exercises.check_time_left(
        lambda f, x: 1 - f + f * x, frame.assign(time_left=[1.0, 0.8, 0.7])
    )
    assert "a 40 % and b 60 %" in told.text
    assert "More than 100 %" not in told.text
    fast = exercises.check_time_left(lambda f, x: 1 - f + f * x, findings.read_times())
    assert "More than 100 %" in fast.text  # VGG-16, one image
    one = exercises.check_time_left(
        lambda f, x: 1 - f + f * x, frame.drop(columns="recipe").assign(time_left=0.8)
    )
    assert "the pruned network 40 %" in one.text


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda f, x: f * x, "the rest of the time"),
        (lambda f, x: x, "the whole time"),
        (lambda f, x: f + (1 - f) * x, "swapped"),
        (lambda x, f: 1 - f + f * x, "other order"),
        (lambda f, x: f * (1 - x), "time saved"),
        (lambda f, x: 1 / (1 - f + f * x), "speed-up"),
        (lambda f, x: 1 - f * x, "what goes of it"),
        (lambda f, x: 0.5, "At share"),
        (lambda f, x: None, "returns nothing"),
        (lambda f: f, "raised TypeError"),
        (0.5, "a function is asked for"),
    ],
)
def test_time_left_wrong(answer, said):
    found = exercises.check_time_left(answer)
    assert found.right is False
    assert said in found.text
