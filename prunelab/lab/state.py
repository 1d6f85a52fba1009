"""What the lab knows: a network, data, and the choice at hand. No widget in here."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import traitlets
from torch import Tensor, nn

from prunelab.data import DataSplits, load_data
from prunelab.experiments import load_recipe, recipe_names
from prunelab.graph import ChannelGraph, trace
from prunelab.measure import choose_ratios, uniform_ratios
from prunelab.models import load_model
from prunelab.pruning import (
    PruningPlan,
    load_pruned,
    make_plan,
    measure_cost,
    measure_memory,
    prune,
    rank_filters,
    resolve_ratios,
    score_filters,
)
from prunelab.utils.paths import find_weights, runs_dir
from prunelab.utils.tensors import hash_tensors, read_header

OURS = "resnet20-digits"  # trained by us, in data/checkpoints
CHOICE = {
    "criterion": "l1",
    "strategy": "independent",
    "order": "smallest",
    "rounding": "ceil",
    "align": 1,
}


@dataclass(frozen=True, eq=False)
class Network:
    """A traced network and its data, with where they came from, and the scores of its filters.

    Attributes:
        model: the network, on the data's device.
        data: its data.
        graph: its trace.
        architecture: its name for `load_model`, where it has one.
        by_name: whether it was opened by name and file; then a recipe or code can do so again.
        weights: the file they came from.
        source: the data's name for `load_data`.
        known: {criterion: scores}, those computed so far.
    """

    model: nn.Module
    data: DataSplits
    graph: ChannelGraph
    architecture: str | None
    by_name: bool
    weights: str | None
    source: str | None
    known: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def scores(self, criterion: str) -> dict[str, Tensor]:
        """The scores of a criterion, computed once; one of images may take a while."""
        if criterion not in self.known:
            self.known[criterion] = score_filters(self.graph, criterion, data=self.data)
        return self.known[criterion]

    def plan(self, ratios: Mapping[str, float], choice: Mapping[str, Any]) -> PruningPlan:
        """`make_plan`, without scoring anew."""
        scores = None if choice["strategy"] == "greedy" else self.scores(choice["criterion"])
        return make_plan(self.graph, ratios, scores=scores, data=self.data, **choice)

    def cost(self, plan: PruningPlan | None = None) -> pd.DataFrame:
        """`measure_cost`, and the memory of maps."""
        return measure_memory(self.graph, measure_cost(self.graph, plan))


def open_network(
    model: nn.Module | str | None = None,
    data: DataSplits | str | Path = "digits",
    weights: str | Path | None = None,
) -> Network:
    """A network by module or name (None: our ResNet-20 on digits), traced, on the data's device.

    weights: a file that `load_model` takes, or one of `save_pruned`. Raises what these raise.
    """
    splits = data if isinstance(data, DataSplits) else load_data(data)
    if model is None:
        model, weights = "resnet20", weights or find_weights(OURS)
    if isinstance(model, str):
        found, name = _load(model, weights, len(splits.classes)), model
    else:
        found, name = model, getattr(model, "architecture", {}).get("name", "")
    return Network(
        model=found,
        data=splits,
        graph=trace(found.to(splits.device), torch.zeros(splits.image_shape)),
        architecture=name or None,
        by_name=isinstance(model, str),
        weights=str(weights) if weights else None,
        source=None if isinstance(data, DataSplits) else str(data),
    )


def _load(name: str, weights: str | Path | None, classes: int) -> nn.Module:
    if weights is not None and _is_pruned(weights):
        return load_pruned(weights)
    return load_model(name, num_classes=classes, weights=weights)


def _is_pruned(path: str | Path) -> bool:
    try:
        return "plan" in read_header(path)
    except (ValueError, OSError):  # no file of ours: `load_model` says what it is
        return False


class State(traitlets.HasTraits):
    """A network and a choice of what to remove; a plan follows from them.

    `choose` changes the choice; what `make_plan` refuses changes nothing. Views observe the traits.

    Attributes:
        network: the network and its data (a trait, like the next four).
        plan: what the choice makes of it.
        layer: the one that is looked at, by its qualified name.
        measured: the network's sensitivity, once it was measured.
        trained: what the plan left, once it was retrained.
        ratios: what is removed, as `make_plan` takes it.
        choice: criterion, strategy, order, rounding and align.
    """

    network = traitlets.Instance(Network)
    plan = traitlets.Instance(PruningPlan)
    layer = traitlets.Unicode()
    measured = traitlets.Instance(pd.DataFrame, allow_none=True)
    trained = traitlets.Instance(nn.Module, allow_none=True)

    def __init__(
        self, network: Network, *, ratios: Mapping[str, float] | None = None, **choice: Any
    ) -> None:
        super().__init__()
        self.ratios: dict[str, float] = {}
        self.choice: dict[str, Any] = dict(CHOICE)
        self._costed: tuple[PruningPlan | None, pd.DataFrame] = None, pd.DataFrame()
        self.show(network)
        self.choose(ratios=ratios, **choice)

    def show(self, network: Network) -> None:
        """Take another network; nothing is removed from it yet."""
        plan = network.plan({}, CHOICE)
        self.ratios, self.choice = {}, dict(CHOICE)
        with self.hold_trait_notifications():
            self.measured, self.trained, self.network, self.plan = None, None, network, plan
            free = [group.leader for group in network.graph.groups if group.prunable]
            self.layer = free[0] if free else network.graph.layers[0]

    def choose(self, *, ratios: Mapping[str, float] | None = None, **choice: Any) -> None:
        """Another choice: ratios (all of them), criterion, strategy, order, rounding, align.

        Errors are those of `make_plan`.
        """
        wanted = dict(self.ratios if ratios is None else ratios)
        settings = {**self.choice, **choice}
        plan, before = self.network.plan(wanted, settings), self.choice
        self.ratios, self.choice = wanted, settings
        with self.hold_trait_notifications():
            if plan.keep != self.plan.keep:
                self.trained = None
            if any(settings[name] != before[name] for name in ("criterion", "order")):
                self.measured = None  # it was of other filters; measured again, the store knows it
            self.plan = plan

    def set_ratio(self, key: str, ratio: float | None) -> None:
        """The ratio of a layer or stage; None: it follows what is said of its stage, or of all."""
        ratios = {k: v for k, v in self.ratios.items() if k != key}
        self.choose(ratios=ratios if ratio is None else {**ratios, key: ratio})

    def set_stage(self, stage: str, ratio: float) -> None:
        """The ratio of a stage; its layers follow, but for those that are skipped (at 0)."""
        own = {group.leader for group in self.graph.groups if group.stage == stage}
        ratios = {k: v for k, v in self.ratios.items() if v == 0 or not self._is_of(k, own)}
        self.choose(ratios={**ratios, stage: ratio})

    def _is_of(self, key: str, leaders: set[str]) -> bool:
        """Whether a key of ratios names a layer of groups with these leaders."""
        if key == "*" or key in self.graph.stages:
            return False
        return self.graph.group_of(key).leader in leaders

    def toggle(self, layer: str, number: int) -> None:
        """Let a filter, by its original number, go or stay by hand, whatever its score."""
        raise NotImplementedError

    def ratio_of(self, key: str) -> float:
        """What a stage or layer stands at, whichever key says so."""
        if key in self.graph.stages:
            return self.ratios.get(key, self.ratios.get("*", 0.0))
        return resolve_ratios(self.graph, self.ratios).get(self.graph.group_of(key).leader, 0.0)

    def skips(self, layer: str) -> bool:
        """Whether a layer is kept whole by a ratio of 0 of its own."""
        leader = self.graph.group_of(layer).leader
        return any(v == 0 and self._is_of(k, {leader}) for k, v in self.ratios.items())

    @property
    def graph(self) -> ChannelGraph:
        return self.network.graph

    @property
    def cost(self) -> pd.DataFrame:
        """`measure_cost` of the plan, and the memory of maps; counted once."""
        if self._costed[0] is not self.plan:
            self._costed = self.plan, self.network.cost(self.plan)
        return self._costed[1]

    def rank(self, layer: str | None = None) -> pd.DataFrame:
        """The sorted filters of a layer, or of every conv, with their fates."""
        scores = self.network.scores(self.choice["criterion"])
        if layer:
            scores = {layer: scores[layer]}
        return rank_filters(self.graph, self.plan, scores=scores)

    @property
    def small(self) -> nn.Module:
        """The network that the plan leaves, retrained if it was."""
        if self.trained is not None:
            return self.trained
        return prune(self.network.model, self.plan, graph=self.graph)

    def leaves(self, network: Network, plan: PruningPlan) -> bool:
        """Whether the choice at hand still leaves the filters that it left when a job began."""
        return self.network is network and self.plan.keep == plan.keep

    @property
    def folder(self) -> Path:
        """Where what is made of this network, these data and this plan is kept."""
        weights = hash_tensors(self.network.model.state_dict())
        keep = json.dumps(self.plan.keep, sort_keys=True)
        about = f"{weights} {self.network.data.fingerprint} {keep}"
        return runs_dir() / "lab" / hashlib.blake2b(about.encode(), digest_size=8).hexdigest()

    def presets(self) -> list[str]:
        """What `preset` takes: nothing, the recipes of this network, equal ratios, a budget."""
        begin = f"{self.network.architecture}-pruned"
        own = [name for name in recipe_names() if name.startswith(begin)]
        recipes = [name for name in own if "scratch" not in name]
        return ["nothing", *recipes, "uniform", "budget"]

    def preset(self, name: str, limit: float = 0.7) -> None:
        """Take the ratios of a recipe, or those that leave at most `limit` of the multiply-adds.

        These are `uniform`, equal for all layers, or `budget`, by the measured sensitivity;
        ValueError where none was measured.
        """
        ratios: Mapping[str, float]
        if name == "nothing":
            ratios = {}
        elif name == "uniform":
            ratios = uniform_ratios(self.graph, max_flops=limit)
        elif name == "budget":
            if self.measured is None:
                raise ValueError(
                    "a budget is met by what layers can lose: "
                    "measure the sensitivity first, in its tab"
                )
            ratios = choose_ratios(self.measured, self.graph, max_flops=limit)
        else:
            ratios = load_recipe(name).prune.all_ratios  # type: ignore[union-attr]
        self.choose(ratios=ratios)
