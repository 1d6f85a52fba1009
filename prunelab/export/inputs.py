"""What a network is called with, and the batches on which a file of it is held against it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

CHECKED = 64  # images, where none are given; also the largest batch
INSTEAD = (
    "example_input=(x,) fixes the batch, detection networks take [image], and "
    'to="state_dict" writes the weights of any network'
)


@dataclass(frozen=True)
class Inputs:
    """The arguments of a forward.

    Attributes:
        args: the arguments.
        dynamic: the first dimension of the one tensor may be any.
    """

    args: tuple[Any, ...]
    dynamic: bool

    @property
    def tensors(self) -> list[Tensor]:
        """Every tensor in the arguments."""
        return tree_leaves(self.args)

    @property
    def shapes(self) -> list[list[Any]]:
        """Of each tensor; a first dimension that may be any is "batch"."""
        shapes: list[list[Any]] = [list(x.shape) for x in self.tensors]
        return [["batch", *shape[1:]] for shape in shapes] if self.dynamic else shapes


def read_inputs(example: Any) -> Inputs:
    """A tensor leaves the batch open; a list (of images) and a tuple are taken as they are."""
    args = example if isinstance(example, tuple) else (example,)
    leaves = tree_leaves(args)
    if not leaves or not all(isinstance(x, Tensor) and x.numel() for x in leaves):
        raise ValueError(
            "example_input must be a tensor, such as torch.zeros(1, 3, 32, 32), a list of images "
            f"or a tuple of tensors; got a {type(example).__name__}"
        )
    if not isinstance(example, Tensor):
        return Inputs(args, dynamic=False)
    # torch.export takes a dimension of size 1 for one that is always 1
    return Inputs((example if len(example) > 1 else torch.cat([example] * 2),), dynamic=True)


def make_batches(inputs: Inputs, images: Tensor | None) -> list[tuple[Any, ...]]:
    """Arguments to compare on: batches of several sizes where the file must take any."""
    first, generator = inputs.tensors[0], torch.Generator().manual_seed(0)

    def draw(x: Tensor) -> Tensor:  # in [0, 1], as detection networks take images
        return torch.rand(x.shape, generator=generator) if x.is_floating_point() else x

    if images is None:
        if not inputs.dynamic:
            return [tree_map_only(Tensor, draw, inputs.args) for _ in range(2)]
        images = torch.randn(CHECKED, *first.shape[1:], generator=generator)
    single = isinstance(inputs.args[0], list)  # as detection networks take images: one by one
    if len(inputs.tensors) > 1:
        raise ValueError("images are for networks that take one tensor or a list of one image")
    shape = first.shape if single else first.shape[1:]
    least = 1 if single else len(first)  # of an open batch: two, of which one goes alone
    sort = isinstance(images, Tensor) and images.is_floating_point()
    if not sort or images.shape[1:] != shape or len(images) < least:
        got = f"a {type(images).__name__}"
        if isinstance(images, Tensor):
            got = f"{images.dtype} of {tuple(images.shape)}".removeprefix("torch.")
        raise ValueError(
            f"images must be a normalised float tensor of {least} or more images of shape "
            f"{tuple(shape)}, as example_input has it; got {got}"
        )
    if inputs.dynamic:
        return [(images[:1],), *((some,) for some in images[1:].split(CHECKED - 1))]
    if single:
        return [([image],) for image in images]
    return [(some,) for some in images.split(least) if len(some) == least]


def count_images(args: tuple[Any, ...]) -> int:
    """How many images the arguments are."""
    return len(args[0])
