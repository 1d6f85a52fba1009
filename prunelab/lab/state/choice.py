"""What the lab knows: a network, the choice at hand, and what was made of each choice."""

import functools
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

import pandas as pd
import traitlets
from torch import nn

from prunelab.experiments import load_recipe
from prunelab.graph import ChannelGraph
from prunelab.lab.state.given import check_curves, find_scored
from prunelab.lab.state.network import Network
from prunelab.lab.state.retraining import Training, hash_plan
from prunelab.measure import (
    choose_ratios,
    find_unmeasured,
    predict_accuracy,
    uniform_ratios,
)
from prunelab.pruning import PruningPlan, prune, rank_filters, resolve_ratios

CHOICE = {
    "criterion": "l1",
    "strategy": "independent",
    "order": "smallest",
    "rounding": "ceil",
    "align": 1,
}
BUDGETS = ("uniform", "budget")  # presets that take a limit
Method = TypeVar("Method", bound=Callable[..., Any])
AT_ONCE = 1.0  # seconds within which a slider's movements are undone as one


@dataclass(frozen=True)
class Wish:
    """What was asked for.

    Attributes:
        ratios: what is removed, as `make_plan` takes it.
        how: criterion, strategy, order, rounding and align.
        keep: {layer: filters} that stay by hand, as `make_plan` takes it.
        drop: likewise, those that go.
        preset: the preset that it is, with its limit; None: one's own.
    """

    ratios: dict[str, float] = field(default_factory=dict)
    how: dict[str, Any] = field(default_factory=CHOICE.copy)
    keep: dict[str, list[int]] = field(default_factory=dict)
    drop: dict[str, list[int]] = field(default_factory=dict)
    preset: tuple[str, float | None] | None = ("nothing", None)

    def plan(self, network: Network) -> PruningPlan:
        """What `make_plan` makes of it; it raises what is wrong."""
        by_hand = {"keep": self.keep or None, "drop": self.drop or None}
        return network.plan(self.ratios, **self.how, **by_hand)


def locked(method: Method) -> Method:
    """The method of a state, holding its lock."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self.lock:
            return method(self, *args, **kwargs)

    return cast(Method, call)


class State(traitlets.HasTraits):
    """A network and a choice of what to remove; a plan follows from them.

    `choose` changes the choice; what `make_plan` refuses changes nothing. Views observe the traits.
    It begins with these ratios, the layer that is looked at, and curves that are measured already.

    Attributes:
        network: the network and its data (a trait, like the next four).
        plan: what the choice makes of it.
        layer: the one that is looked at, by its qualified name.
        measured: the network's sensitivity by the criterion at hand, once it was measured.
        noted: counts what was noted of plans, so that views look again.
        wish: what was asked for.
        lock: held while it changes and views follow: a job does so in a thread.
    """

    network = traitlets.Instance(Network)
    plan = traitlets.Instance(PruningPlan)
    layer = traitlets.Unicode()
    measured = traitlets.Instance(pd.DataFrame, allow_none=True)
    noted = traitlets.Int()

    def __init__(
        self,
        network: Network,
        *,
        ratios: Mapping[str, float] | None = None,
        layer: str | None = None,
        measured: pd.DataFrame | None = None,
        **choice: Any,
    ) -> None:
        super().__init__()
        self.lock = threading.RLock()
        self.show(network)
        if ratios or choice:
            self.choose(ratios=ratios, **choice)
            self._past.clear()
        if layer is not None:
            self.layer = find_scored(self.graph, layer)
        if measured is not None:
            check_curves(measured, self.graph)
            self.add_curves(measured, self.choice["criterion"], self.choice["order"])

    @locked
    def show(self, network: Network) -> None:
        """Take another network; nothing is removed from it yet."""
        plan = Wish().plan(network)
        self.wish = Wish()
        self._past: list[Wish] = []
        self._future: list[Wish] = []
        self._moved: tuple[str, float] = "", 0.0
        self._costed: tuple[PruningPlan | None, pd.DataFrame] = None, pd.DataFrame()
        self._notes: dict[str, dict[str, Any]] = {}  # by plan
        self._curves: dict[tuple[str, str], pd.DataFrame] = {}  # by criterion and order
        with self.hold_trait_notifications():
            self.measured, self.network, self.plan = None, network, plan
            free = [group.leader for group in network.graph.groups if group.prunable]
            self.layer = free[0] if free else network.graph.layers[0]

    # --- the choice ---

    @property
    def ratios(self) -> dict[str, float]:
        """What is removed, as `make_plan` takes it."""
        return self.wish.ratios

    @property
    def choice(self) -> dict[str, Any]:
        """Criterion, strategy, order, rounding and align."""
        return self.wish.how

    def choose(self, *, ratios: Mapping[str, float] | None = None, **choice: Any) -> None:
        """Another choice: ratios (all of them), criterion, strategy, order, rounding, align.

        Errors are those of `make_plan`.
        """
        wanted = dict(self.ratios if ratios is None else ratios)
        how = {**self.choice, **choice}
        same = (wanted, how) == (self.ratios, self.choice)  # else a budget may hold no longer
        preset = self.wish.preset if same else None
        self.ask(replace(self.wish, ratios=wanted, how=how, preset=preset))

    @locked
    def ask(self, wish: Wish, moved: str = "") -> None:
        """Take a wish, which `undo` takes back.

        moved: the knob that moves; what it does within a second is undone as one.
        """
        if not (wish.ratios or wish.keep or wish.drop or wish.preset):
            wish = replace(wish, preset=("nothing", None))
        plan, before = wish.plan(self.network), self.wish  # raises what is wrong
        if wish == before:
            return
        now = time.monotonic()
        if not moved or self._moved[0] != moved or now - self._moved[1] > AT_ONCE:
            self._past.append(before)
        self._moved, self._future = (moved, now), []
        self._take(wish, plan)

    def _take(self, wish: Wish, plan: PruningPlan) -> None:
        self.wish = wish
        with self.hold_trait_notifications():
            self.measured = self._curves.get((wish.how["criterion"], wish.how["order"]))
            self.plan = plan

    def undo(self) -> None:
        """Take back the last change of the choice; nothing where there is none."""
        self._step(self._past, self._future)

    def redo(self) -> None:
        """Do again what was undone."""
        self._step(self._future, self._past)

    @locked
    def _step(self, source: list[Wish], other: list[Wish]) -> None:
        if source:
            other.append(self.wish)
            self._moved = "", 0.0
            wish = source.pop()
            self._take(wish, wish.plan(self.network))

    @property
    def steps(self) -> tuple[int, int]:
        """How many changes can be undone, and done again."""
        return len(self._past), len(self._future)

    def ask_ratios(self, ratios: Mapping[str, float], moved: str = "") -> None:
        """Other ratios, all of them; as `ask`."""
        self.ask(replace(self.wish, ratios=dict(ratios), preset=None), moved)

    def set_ratio(self, key: str, ratio: float | None) -> None:
        """The ratio of a layer or stage; None: it follows what is said of its stage, or of all."""
        ratios = {k: v for k, v in self.ratios.items() if k != key}
        if ratio is None and key not in self.ratios:  # said by another name of it
            ratios = {k: v for k, v in ratios.items() if not self._is_of(k, {key})}
        ratios = ratios if ratio is None else {**ratios, key: ratio}
        self.ask_ratios(ratios, key)

    def set_stage(self, stage: str, ratio: float) -> None:
        """The ratio of a stage; its layers follow, but for those with ratios of their own."""
        if self.graph.group_of(self.layer).stage != stage and self.graph.select(stage):
            self.layer = self.graph.select(stage)[0].leader  # one that moves is looked at
        self.ask_ratios({**self.ratios, stage: ratio}, stage)

    def _is_of(self, key: str, leaders: set[str]) -> bool:
        """Whether a key of ratios names a layer of groups with these leaders."""
        if key == "*" or key in self.graph.stages:
            return False
        return self.graph.group_of(key).leader in leaders

    def ratio_of(self, key: str) -> float:
        """What a stage or layer stands at, whichever key says so."""
        if key in self.graph.stages:
            return self.ratios.get(key, self.ratios.get("*", 0.0))
        return resolve_ratios(self.graph, self.ratios).get(self.graph.group_of(key).leader, 0.0)

    def own_ratio(self, layer: str) -> float | None:
        """The ratio that a layer has of its own, whatever its stage says."""
        leader = self.graph.group_of(layer).leader
        return next((v for k, v in self.ratios.items() if self._is_of(k, {leader})), None)

    def removed(self, leader: str) -> int:
        """How many filters of a group's leader go."""
        return len(self.graph.numbers[leader]) - len(self.plan.keep[leader])

    def toggle(self, layer: str, number: int) -> None:
        """Let a filter, by its original number, go or stay by hand, whatever its score.

        A second time takes the first back.
        """
        leader = self.graph.group_of(layer).leader
        stays, wish = number in self.plan.keep[layer], self.wish
        picks = {"keep": wish.keep.get(leader, []), "drop": wish.drop.get(leader, [])}
        before, after = ("keep", "drop") if stays else ("drop", "keep")
        if number in picks[before]:
            picks[before] = [own for own in picks[before] if own != number]
        else:
            picks[after] = sorted({*picks[after], number})
        own = {
            name: {k: v for k, v in {**getattr(wish, name), leader: picked}.items() if v}
            for name, picked in picks.items()
        }
        self.ask(replace(wish, keep=own["keep"], drop=own["drop"], preset=None))

    def forget_hand(self, layer: str) -> None:
        """Let a layer's scores decide again."""
        leader = self.graph.group_of(layer).leader
        keep, drop = (
            {k: v for k, v in picks.items() if k != leader}
            for picks in (self.wish.keep, self.wish.drop)
        )
        self.ask(replace(self.wish, keep=keep, drop=drop))

    def presets(self) -> list[str]:
        """What `preset` takes: nothing, the recipes of this network, equal ratios, a budget."""
        return ["nothing", *self.network.recipes, *BUDGETS]

    def preset(self, name: str, limit: float = 0.7) -> None:
        """Take the ratios of a recipe, or those that leave at most `limit` of the multiply-adds.

        These are `uniform`, equal for all layers, or `budget`, by the measured sensitivity;
        ValueError where none was measured.
        """
        how, align = {**self.choice, "rounding": "ceil"}, self.choice["align"]
        ratios: Mapping[str, float]
        if name == "nothing":
            ratios = {}
        elif name == "uniform":
            ratios = uniform_ratios(self.graph, max_flops=limit, align=align)
        elif name == "budget":
            ratios = choose_ratios(self.curves(), self.graph, max_flops=limit, align=align)
        else:
            recipe = load_recipe(name).prune
            ratios = recipe.all_ratios  # type: ignore[union-attr]
            how = {key: getattr(recipe, key) for key in CHOICE}
        in_force = name, limit if name in BUDGETS else None
        self.ask(Wish(dict(ratios), how, preset=in_force))

    # --- what is known ---

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

    @locked
    def add_curves(self, found: pd.DataFrame, criterion: str, order: str) -> None:
        """Measured sensitivity, beside what was measured of other layers before."""
        key = criterion, order
        known = self._curves.get(key)
        if known is not None:
            refused = found.attrs
            found = pd.concat([known[~known["layer"].isin(found["layer"])], found])
            found = found.reset_index(drop=True)
            found.attrs = refused
        self._curves[key] = found
        if key == (self.choice["criterion"], self.choice["order"]):
            self.measured = found

    def curves(self) -> pd.DataFrame:
        """The measured curves that ratios can be chosen by: of layers, or else of stages.

        ValueError where none were measured.
        """
        if self.measured is None:
            raise ValueError(
                "a budget is met by what layers can lose: measure the sensitivity first, in its tab"
            )
        of_stages = self.measured["layer"].isin(self.graph.stages)
        layers, stages = self.measured[~of_stages], self.measured[of_stages]
        free = sum(group.prunable for group in self.graph.groups)
        if stages.empty or layers["layer"].nunique() == free:
            return layers
        return stages

    def predict(self) -> float | None:
        """The accuracy that the measured curves promise; None where they do not say."""
        if self.measured is None or find_unmeasured(self.curves(), self.graph, self.plan):
            return None
        return predict_accuracy(self.curves(), self.graph, self.plan)

    # --- what was made of plans ---

    @locked
    def note(self, name: str, value: Any, plan: PruningPlan | None = None) -> None:
        """Keep what was made of a plan, by a name; None: of that at hand."""
        self._notes.setdefault(hash_plan(plan or self.plan), {})[name] = value
        self.noted += 1

    @locked
    def forget(self) -> None:
        """Keep nothing of what was noted of the plan at hand; its files stay."""
        self._notes.pop(hash_plan(self.plan), None)
        self.noted += 1

    def find(self, name: str) -> Any:
        """What was noted of the plan at hand by this name, or None."""
        return self._notes.get(hash_plan(self.plan), {}).get(name)

    @property
    def training(self) -> Training | None:
        """How what the plan left was retrained; None where it was not."""
        return self.find("training")

    @property
    def trained(self) -> nn.Module | None:
        """What the plan left, retrained; None where it was not."""
        return self.training.model if self.training else None

    @property
    def small(self) -> nn.Module:
        """The network that the plan leaves, retrained if it was."""
        if self.trained is not None:
            return self.trained
        return prune(self.network.model, self.plan, graph=self.graph)

    def leaves(self, network: Network, plan: PruningPlan) -> bool:
        """Whether the choice at hand still leaves the filters that it left when a job began."""
        return self.network is network and self.plan.keep == plan.keep
