"""Whether a file computes what the model does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.export.conversion import say
from prunelab.export.formats import find_tensors
from prunelab.export.inputs import INSTEAD, count_images
from prunelab.export.runtime import Run

MOST = 1e-3  # of an output's largest value, by which it may differ: other kernels, other rounding
TIES = "boxes of equal scores may be others: pass images= of your data"


@dataclass(frozen=True)
class Check:
    """What was compared: of `Exported`."""

    images: int
    max_difference: float
    same_answers: float | None


@torch.no_grad()
def compare(
    model: nn.Module, run: Run, batches: Sequence[tuple[Any, ...]], names: Sequence[str]
) -> Check:
    """What a file computes beside what the model does; ValueError where they disagree."""
    largest: dict[str, list[float]] = {name: [] for name in names}
    differences: dict[str, list[float]] = {name: [] for name in names}
    count, numbers, answers = 0, 0, []
    for args in batches:
        output = model(*args)
        expected, found = find_tensors(output), _run(run, args)
        hint = TIES if _are_detections(output) else INSTEAD
        if [x.shape for x in found] != [x.shape for x in expected]:
            raise ValueError(
                f"for inputs of {_say_shapes(args)} the file gives {_say_shapes(found)}, and the "
                f"model {_say_shapes(expected)}; nothing was written ({hint})"
            )
        for name, one, other in zip(names, expected, _sort_like(output, found), strict=True):
            largest[name] += [_largest(one)]
            differences[name] += [_largest(one.double() - other.double())]
            numbers += one.numel()
        if len(expected) == 1 and expected[0].ndim > 1:
            answers.append((expected[0].argmax(1) == found[0].argmax(1)).flatten())
        count += count_images(args)
    if not numbers:
        raise ValueError(
            "the model finds nothing in these images, so there is nothing to compare; pass others "
            "as images="
        )
    for name in names:
        difference, most = max(differences[name]), max(largest[name])
        if not difference <= MOST * most:  # nor where it is no number
            raise ValueError(
                f"the file does not compute what the model does: {name} differs by "
                f"{difference:.3g}, and is {most:.3g} at most; nothing was written ({hint})"
            )
    share = float(torch.cat(answers).double().mean()) if answers else None
    return Check(count, max(map(max, differences.values())), share)


def _run(run: Run, args: tuple[Any, ...]) -> list[Tensor]:
    try:
        return run(*args)
    except Exception as error:  # each runtime has its own kinds
        raise ValueError(
            f"the file does not run on inputs of {_say_shapes(args)}, as the model does "
            f"({say(error)}); nothing was written ({INSTEAD})"
        ) from error


def _largest(x: Tensor) -> float:
    return float(x.double().abs().max()) if x.numel() else 0.0


def _say_shapes(tensors: Any) -> str:
    return ", ".join(str(tuple(x.shape)) for x in find_tensors(tensors))


def _are_detections(output: Any) -> bool:
    return isinstance(output, list) and all(isinstance(x, dict) and "boxes" in x for x in output)


def _sort_like(output: Any, found: list[Tensor]) -> list[Tensor]:
    """What was found; detections in the model's order, as those of equal scores change places."""
    if not _are_detections(output):
        return found
    ordered: list[Tensor] = []
    for image in output:
        own = found[len(ordered) : len(ordered) + len(image)]
        far = torch.zeros(())
        for one, other in zip(image.values(), own, strict=True):
            apart = torch.cdist(_as_rows(one), _as_rows(other), p=float("inf"))
            far = far + apart / max(_largest(one), 1e-9)
        ordered += [x[far.argmin(1)] for x in own] if far.numel() else own
    return ordered


def _as_rows(x: Tensor) -> Tensor:
    return x.float().reshape(len(x), -1) if x.numel() else x.float().reshape(0, 1)
