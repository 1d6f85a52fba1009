"""What a trace carries and learns: labels of channels, which are tied, what they slice, what stays.

During a trace every tensor carries *labels*: integers that say, for each channel, which filter made
it. Labels have the tensor's number of dimensions; a dimension of size 1 means that they do not
change along it, so a conv's output (n, 16, 32, 32) has labels (1, 16, 1, 1). What a model does with
its channels, such as a concatenation or a transposition, is done with the labels too; and channels
that can only stay or go together get *tied*.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor, nn

from prunelab.graph.history import find_history


@dataclass(frozen=True)
class Layer:
    """A conv or linear layer as it was traced."""

    name: str  # qualified module name (of a functional call: of its weight)
    paper_name: str  # conv_1 …, shortcut_1 …, linear_1 …
    kind: str  # conv, shortcut, linear, or filter: a convolution by numbers that are not trained
    n_in: int
    n_out: int
    kernel: tuple[int, ...]
    groups: int
    bias: bool
    positions: int  # pixels of one image where a filter is applied, over all uses
    size: tuple[int, ...]  # of the output maps, () for a linear layer of whole images
    weight: str  # its qualified name, "" if no module holds it; (out, in / groups, …), and
    # transposed (in, out / groups, …)
    transposed: bool = False


@dataclass(frozen=True, eq=False)
class Count:
    """A number that the model's code took from a shape: a share of how many labels there are.

    Optional is one that a module has as an attribute: it need not be of channels.
    """

    labels: Tensor  # (n,)
    share: Fraction = Fraction(1)
    optional: bool = False

    @property
    def value(self) -> int:
        return int(len(self.labels) * self.share)

    def __mul__(self, factor: object) -> "Count":
        if not isinstance(factor, int):
            return NotImplemented
        return replace(self, share=self.share * factor)

    __rmul__ = __mul__

    def __floordiv__(self, divisor: object) -> "Count":
        if not isinstance(divisor, int) or self.value % divisor:
            return NotImplemented
        return replace(self, share=self.share / divisor)

    def __add__(self, other: object) -> "Count":
        if not isinstance(other, Count) or self.share.denominator * other.share.denominator != 1:
            return NotImplemented
        labels = [*[self.labels] * int(self.share), *[other.labels] * int(other.share)]
        return Count(torch.cat(labels), optional=self.optional and other.optional)

    @property
    def each(self) -> Tensor | None:
        """The label of each thing counted, if they are whole."""
        whole = self.share.denominator == 1
        return self.labels.repeat(int(self.share)) if whole else None


class Mix(NamedTuple):
    """Where an operator mixes channels: of those, it takes what pruning leaves."""

    dim: int  # theirs, in the operator's input
    labels: Tensor
    alone: bool = False  # the operator can run on what is left, without anything else
    shrinks: bool = False  # the dimension is gone in the output, or has size 1


class Channels:
    """What a trace learns: which filters exist, are tied, slice what, must stay, and why.

    Names of tensors are qualified (`layer1.0.conv1.weight`); a parameter shared by two modules has
    one name.

    Attributes:
        batch: images that go in.
        groups: {grouped conv or norm: "go" or "stay"}, what happens to its groups.
        root: label -> the label that stands for all tied to it.
        made: {layer: label of each of its filters}.
        reads: {layer: label of each of its input channels}.
        slices: {tensor: {dimension: label of each of its slices}}.
        counts: {(module, attribute, place): what it counts}.
        mixes: {operator that mixes channels: Mix}.
        computed: {what reads maps with more than one weight: (dimension of its input, labels)}.
        places: {layer: for each use along places, (the channels that it runs for, positions)}.
        weights: {tensor that the code works on: labels of its filters, of its inputs}.
        lengths: {length of weight norm's vectors: (the vectors, dimension of the lengths)}.
        reasons: {label: why it must stay}.
        grids: labels whose numbers an operator keeps equal, and which one.
        layers: in forward order, as yet without paper names.
        uses: names of layers, one for each use of one.
        by_hand: {tensor that the model's own code reads in a way no rule knows: where}.
        called: modules and tensors that the run has used.
        idle: modules and parameters that it has not, nothing inside them either.
        alias: {tensor: its one name}.
        parameters: names of the parameters among them.
    """

    def __init__(self, model: nn.Module, batch: int = 1) -> None:
        self.batch = batch
        history = find_history(model)
        self.groups: dict[str, str] = dict(history.groups) if history else {}
        self.root = torch.empty(0, dtype=torch.long)
        self.made: dict[str, Tensor] = {}
        self.reads: dict[str, Tensor] = {}
        self.slices: dict[str, dict[int, Tensor]] = {}
        self.counts: dict[tuple[str, str, int | None], Tensor] = {}
        self.mixes: dict[str, Mix] = {}
        self.computed: dict[str, tuple[int, Tensor]] = {}
        self.places: dict[str, tuple[tuple[Tensor, int], ...]] = {}
        self.weights: dict[str, tuple[Tensor, Tensor]] = {}
        self.lengths: dict[str, tuple[str, int]] = {}
        self.reasons: dict[int, str] = {}
        self.grids: list[tuple[Tensor, str]] = []
        self.layers: dict[str, Layer] = {}
        self.uses: list[str] = []
        self.by_hand: dict[str, str] = {}
        self.called: set[str] = set()
        self.idle: list[str] = []
        self.alias: dict[str, str] = {}
        self.parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
        first: dict[int, str] = {}
        for find in (model.named_parameters, model.named_buffers):
            for name, tensor in find(remove_duplicate=False):
                self.alias[name] = first.setdefault(id(tensor), name)

    def make(self, layer: str, n: int) -> Tensor:
        """The labels of a layer's n filters; the same ones each time the layer is used."""
        if layer not in self.made:
            self.made[layer] = self.new(n)
        return self.made[layer]

    def new(self, n: int) -> Tensor:
        """n labels that nothing has yet."""
        labels = torch.arange(len(self.root), len(self.root) + n)
        self.root = torch.cat([self.root, labels])
        return labels

    def fix(self, reason: str) -> Tensor:
        """One label for channels that no filter made; what is tied to it must stay."""
        label = self.new(1)
        self.reasons[int(label)] = reason
        return label

    def tie(self, a: Tensor, b: Tensor) -> None:
        """The filters of a[i] and b[i] stay or go together."""
        a, b = (labels.reshape(-1) for labels in torch.broadcast_tensors(a, b))
        while True:
            one, other = self.root[a], self.root[b]
            low, high = torch.minimum(one, other), torch.maximum(one, other)
            if torch.equal(low, high):
                return
            rename = torch.arange(len(self.root)).scatter_reduce(0, high, low, "amin")
            self.root = rename[self.root]

    def tie_along(self, labels: Tensor, dims: Iterable[int], where: str) -> Tensor:
        """Tie all that differ only by their place along these dimensions, which get size 1."""
        self.grids.append((labels.reshape(-1), where))
        for dim in dims:
            self.tie(labels, labels.narrow(dim, 0, 1))
            labels = labels.narrow(dim, 0, 1)
        return labels

    def slice(self, tensor: str, dim: int, labels: Tensor) -> None:
        """Slice i of a tensor goes with labels[i]; a tensor used twice ties what it is used for."""
        dims = self.slices.setdefault(self.alias.get(tensor, tensor), {})
        self.tie(dims.setdefault(dim, labels), labels)

    def count(
        self, module: str, attribute: str, labels: Tensor, place: int | None = None
    ) -> Tensor:
        """An attribute of a module counts these labels; all that it counts stays equally many."""
        known = self.counts.setdefault((module, attribute, place), labels)
        if len(known) == len(labels):
            self.tie(known, labels)
        return labels

    def read_weight(self, tensor: str, shape: torch.Size) -> tuple[Tensor, Tensor]:
        """The labels of the first two dimensions of a weight that the code works on."""
        if tensor not in self.weights:
            self.weights[tensor] = self.new(shape[0]), self.new(shape[1])
            for dim, labels in enumerate(self.weights[tensor]):
                self.slice(tensor, dim, labels)
        return self.weights[tensor]

    def groups_go(self, name: str, groups: int, channels: int) -> bool:
        """Whether a layer loses whole groups (depthwise), or each of its groups gets thinner.

        What it was in the original network holds in the pruned one too, whose groups may have one
        channel left.
        """
        if groups > 1:
            self.groups.setdefault(name, "go" if groups == channels else "stay")
        return self.groups.get(name) == "go"

    def refuse(self, labels: Tensor, reason: str) -> None:
        """The filters of these labels must stay; the first reason given holds."""
        for label in labels.unique().tolist():
            self.reasons.setdefault(label, reason)

    def run_for(self, labels: Tensor, layer: str, positions: int) -> None:
        """Of the positions of a layer along places, each of these channels has as many."""
        self.places[layer] = (*self.places.get(layer, ()), (labels.reshape(-1), positions))

    def use(self, layer: Layer) -> None:
        """Note a use of a layer; positions add up."""
        self.uses.append(layer.name)
        if known := self.layers.get(layer.name):
            layer = replace(known, positions=known.positions + layer.positions)
        self.layers[layer.name] = layer
