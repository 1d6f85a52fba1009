"""Exercises of notebook 05: rounds that add up, original numbers, and steps of the optimiser."""

import math
from typing import Any

from prunelab.data import DataSplits
from prunelab.exercises.verdict import Wrong, call, exercise, take_number
from prunelab.graph import ChannelGraph
from prunelab.pruning import PruningPlan

NEAR = 1e-3


@exercise
def check_second_round(answer: Any, ratio: float = 0.5) -> str:
    """A function or a number is asked for: the ratio of the second round.

    Args:
        answer: a function of the ratio that both rounds remove together, of which the first round
            removes a half; or its value for `ratio`.
        ratio: of the filters that there were at the beginning.

    Returns:
        A verdict.

    Example:
        >>> exercises.check_second_round(second_ratio, ratio)
    """
    both = [ratio] if not callable(answer) else [ratio, 0.2, 0.5, 0.8]
    for whole in both:
        found = take_number(call(answer, whole) if callable(answer) else answer)
        left = 1 - whole / 2
        right = whole / 2 / left
        if abs(found - right) < NEAR:
            continue
        if abs(found - whole / 2) < NEAR:
            ends = 1 - left * (1 - found)
            raise Wrong(
                f"{found:.3g} is half of {whole:.3g}. But a ratio is a fraction of the filters "
                f"that a layer has now, and the second round finds fewer: both together would "
                f"remove {ends:.3g}."
            )
        if abs(found - whole) < NEAR:
            raise Wrong(
                f"{found:.3g} is what both rounds remove together; the first has removed "
                f"{whole / 2:.3g} already."
            )
        if abs(found - (1 - right)) < NEAR:
            raise Wrong("That is the fraction that stays in the second round; which one goes?")
        if not 0 <= found < 1:
            raise Wrong(f"{found:.3g} is no ratio: it must be in [0, 1), a fraction of filters.")
        raise Wrong(
            f"With {found:.3g} in the second round both remove {1 - left * (1 - found):.3g} "
            f"together; {whole:.3g} is asked for. How many of 100 filters does each round see?"
        )
    return (
        "What stays multiplies, (1 - first) (1 - second) = 1 - both, so equal steps need a ratio "
        "that grows from round to round."
    )


@exercise
def check_second_filters(
    answer: Any, first: PruningPlan, second: PruningPlan, graph: ChannelGraph, layer: str
) -> str:
    """A list of numbers is asked for: the filters that the second round removed.

    Args:
        answer: numbers of filters, as the network had them before the first round.
        first: the plan of the network after the first round.
        second: that after both.
        graph: of the whole network.
        layer: whose filters.

    Returns:
        A verdict.

    Example:
        >>> plans = once_pruned.pruning_plan, twice_pruned.pruning_plan
        >>> exercises.check_second_filters(gone, *plans, graph, "conv_2")
    """
    found = _take_numbers(answer)
    name = graph.find(layer)
    before, after = first.keep[name], second.keep[name]
    gone = set(before) - set(after)
    everything = set(range(first.widths[name]))
    renumbered = {place for place, number in enumerate(before) if number in gone}
    if found == gone:
        moved = sum(place != number for place, number in enumerate(before))
        return (
            f"{moved} of the {len(before)} filters that the second round saw had another place "
            "than in the whole network; a plan in original numbers can still be applied to that "
            "at once."
        )
    known = {
        "These are places in the network of the second round, where the filters were numbered "
        "anew. Which numbers did the filters at these places have at first?": renumbered,
        "These are the filters that went in the first round.": everything - set(before),
        "These went in both rounds together; which of them were still there after the first?": (
            everything - set(after)
        ),
        "These are the filters that stay after both rounds.": set(after),
        "These are the filters that stayed after the first round.": set(before),
    }
    for what, wrong in known.items():
        if found == wrong:
            raise Wrong(what)
    if outside := found - everything:
        raise Wrong(
            f"{layer} has filters 0 to {max(everything)}; there is no {sorted(outside)[0]}."
        )
    extra, missing = len(found - gone), len(gone - found)
    raise Wrong(
        f"{extra} of your filters did not go in the second round, and {missing} that did are "
        "missing. Compare what each plan keeps."
    )


@exercise
def check_steps(answer: Any, data: DataSplits, batch_size: int, epochs: int = 1) -> str:
    """A number is asked for: the steps that the optimiser takes.

    Args:
        answer: the number.
        data: whose training split is learned.
        batch_size: images in a step.
        epochs: of training.

    Returns:
        A verdict.

    Example:
        >>> exercises.check_steps(steps, splits, batch_size, epochs)
    """
    found, images = take_number(answer), len(data.train)
    # the last batch is smaller; of one image alone, batch norm cannot learn
    each = max(1, images // batch_size + (images % batch_size > 1))
    full = images // batch_size
    if found == each * epochs:
        return (
            f"{each} steps an epoch, whatever the network's width: the small network takes as many "
            "steps as the whole one in equal epochs, and each costs fewer multiply-adds. So equal "
            "epochs are not equal work."
        )
    known: dict[float, str] = {
        full * epochs: "The images that do not fill a batch are learned, too, in a smaller one.",
        images * epochs: "That is how many images are seen; a step takes a batch of them.",
        each: "That is one epoch.",
        full: "That is one epoch, and without the batch that is not full.",
        math.ceil(images * epochs / batch_size): (
            "Batches do not go on from one epoch into the next: each epoch ends with a smaller one."
        ),
        math.ceil(len(data.val) / batch_size) * epochs: (
            "Those are batches of the validation split; the optimiser learns from another one."
        ),
    }
    if found in known:
        raise Wrong(known[found])
    raise Wrong(
        f"{found:g} is not it. There are {images:,} images to learn from, in batches of "
        f"{batch_size}; {epochs} epoch{'' if epochs == 1 else 's'}."
    )


def _take_numbers(answer: Any) -> set[int]:
    """Whole numbers as a set; Wrong for anything else."""
    try:
        numbers = [take_number(number) for number in answer]
    except TypeError:
        raise Wrong(
            f"Your answer is {answer!r}; a list of filters' numbers is asked for."
        ) from None
    if any(number != int(number) for number in numbers):
        raise Wrong("Filters have whole numbers, from 0.")
    return {int(number) for number in numbers}
