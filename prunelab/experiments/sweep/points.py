"""The points of a sweep: each a replay of its own, some with a baseline that they share."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from prunelab.data import check_source
from prunelab.experiments.notebooks import NotebookReplay
from prunelab.experiments.recipe import Recipe, dump_recipe, load_recipe
from prunelab.experiments.run_folder import Finished, sign_data
from prunelab.experiments.sweep.definition import Sweep
from prunelab.models import is_own
from prunelab.utils.tensors import hash_text, write_whole

RECIPES = "recipes"  # the folder of a sweep with those recipes that are the user's own
LONGEST = 100  # letters of a name, which is also a folder's
# of a point that only trains the baseline of others
BASELINE_ONLY = ("prune=null", "scratch=null", "continued=false", "sensitivity=[]")


@dataclass(frozen=True)
class Point:
    """A replay of a sweep, as plain data.

    Attributes:
        name: of its rows and, with the seed, of its folder.
        recipe: a recipe's name, or a file in the sweep's folder.
        changes: settings that are other than the recipe's.
        seed, data, device, resources: as in the sweep.
        settings: what varies in the sweep.
        baseline: the key of the point whose baseline is this one's, too.
        for_others: whether it is there for its baseline alone.
        signed: what `sign_data` says of the data.
    """

    name: str
    recipe: str
    changes: tuple[str, ...]
    seed: int
    data: str
    device: str
    settings: dict[str, Any] = field(default_factory=dict)
    baseline: str | None = None
    for_others: bool = False
    resources: dict[str, float] | None = None
    signed: str = ""

    @property
    def key(self) -> str:
        """The name of its folder."""
        return f"{self.name}-{self.seed}"

    def as_json(self) -> dict[str, Any]:
        """Plain values, of which `Point(**values)` makes it again."""
        return asdict(self)

    def load(self, runs: Path) -> Recipe:
        """Its recipe; runs: the sweep's folder."""
        return load_recipe(self._find_recipe(runs), self.changes)

    def is_done(self, runs: Path) -> bool:
        """Whether it was run to its end."""
        recipe = self.load(runs)
        return Finished(runs / self.key, recipe, self.seed, self.signed, "").is_so()

    def replay(self, runs: Path) -> NotebookReplay:
        """Its replay, in the sweep's folder."""
        return NotebookReplay(
            self._find_recipe(runs),
            data=self.data,
            changes=self.changes,
            device=self.device,
            seed=self.seed,
            out=runs,
            baseline=str(runs / self.baseline) if self.baseline else "",
            signed=self.signed,
        )

    def _find_recipe(self, runs: Path) -> str:
        return str(runs / self.recipe) if self.recipe.startswith(f"{RECIPES}/") else self.recipe


def make_points(sweep: Sweep, runs: Path) -> list[Point]:
    """All points, those that others wait for first; runs: the sweep's folder.

    ValueError for a setting that a recipe does not have, FileNotFoundError for data.
    """
    points, loaded = [], {}
    varied = [settings for settings, _ in sweep.combinations()]
    sign = lru_cache(sign_data)  # of a folder of many files it takes a second
    told = [say_setting(*item) for item in sweep.settings.items() if item[0] == "model.name"]
    for recipe, file in _keep_recipes(sweep.recipes, runs, told).items():
        for settings, changes in sweep.combinations():
            name = _name(recipe, settings, varied)
            said = tuple(say_setting(key, value) for key, value in changes.items())
            said = (*said, say_setting("name", name))
            own = load_recipe(file if file == recipe else runs / file, said)
            if is_own(own.model.name):  # workers elsewhere may not know it yet
                said = (*said, say_setting("model.name", own.model.name))
            source = check_source(sweep.data or own.data.source)
            for seed in sweep.seeds:
                point = Point(
                    name=name,
                    recipe=file,
                    changes=said,
                    seed=seed,
                    data=source,
                    device=sweep.device,
                    settings=settings,
                    resources=sweep.resources,
                    signed=sign(source),
                )
                points.append(point)
                loaded[point.key] = own
    twice = [key for key, n in Counter(point.key for point in points).items() if n > 1]
    if twice:
        raise ValueError(f"two points of the sweep are the same: {', '.join(twice[:3])}")
    return _share_baselines(points, loaded)


def _keep_recipes(recipes: Iterable[str], runs: Path, told: Iterable[str]) -> dict[str, str]:
    """{name: itself, or a file in the sweep's folder, where the user's own recipes are kept}.

    told: names of functions of the user's, as changes.
    """
    found = {}
    for given in recipes:
        own = given.endswith((".yaml", ".yml"))
        name = Path(given).stem if own else given
        if name in found:
            raise ValueError(f"two recipes are called {name}; rename one")
        if not own:
            found[name] = name
            continue
        content = dump_recipe(load_recipe(given, told))
        source = content["data"]["source"]
        weights = content["model"]["weights"]
        content["data"]["source"] = check_source(source)
        if weights and Path(weights).exists():
            content["model"]["weights"] = str(Path(weights).resolve())
        del content["name"]
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        # another text is another file: points that run go on with theirs
        found[name] = f"{RECIPES}/{name}~{hash_text(text, 8)}.yaml"
        if not (runs / found[name]).exists():
            write_whole(runs / found[name], text)
    return found


def say_setting(key: str, value: Any) -> str:
    """`key=value`, as `load_recipe` takes it."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return f"{key}={text.removesuffix('...' + chr(10)).strip()}"


def _name(recipe: str, settings: dict[str, Any], varied: list[dict[str, Any]]) -> str:
    """The recipe's name with what varies: `resnet56-pruned-b,lr=0.01`."""
    keys = list(dict.fromkeys(key for each in varied for key in each))
    ends = Counter(key.rpartition(".")[2] for key in keys)
    parts = [recipe]
    for key, value in settings.items():
        end = key.rpartition(".")[2]
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        said = (end if ends[end] == 1 else key, text)
        parts.append("=".join(re.sub(r"[^\w.+-]+", "~", each).strip("~") for each in said))
    name = ",".join(parts)
    if len(name) > LONGEST or re.search("~", name):
        whole = json.dumps([recipe, settings], sort_keys=True, default=str)
        name = f"{name[:LONGEST]}~{hash_text(whole, 6)}"
    return name


def _share_baselines(points: list[Point], loaded: dict[str, Recipe]) -> list[Point]:
    """The points, each with the one whose baseline it takes; those are made where none is."""
    groups: dict[str, list[Point]] = {}
    for point in points:
        if (same := _identify_baseline(point, loaded[point.key])) is not None:
            groups.setdefault(same, []).append(point)
    taken = {point.key for point in points}
    trainers: list[Point] = []
    homes: dict[str, str] = {}
    for same, group in groups.items():
        if len(group) == 1:
            continue
        alone = [point for point in group if loaded[point.key].prune is None]
        if not alone:
            first = group[0]
            name = f"{first.name.partition(',')[0]}-baseline"
            if f"{name}-{first.seed}" in taken:
                name = f"{name}~{hash_text(same, 6)}"
            changes = (*first.changes, *BASELINE_ONLY, say_setting("name", name))
            made = replace(first, name=name, changes=changes, settings={}, for_others=True)
            trainers.append(made)
            taken.add(made.key)
            alone = [made]
        homes |= {point.key: alone[0].key for point in group if point.key != alone[0].key}
    whole = [replace(point, baseline=homes.get(point.key)) for point in points]
    return sorted([*trainers, *whole], key=lambda point: point.baseline is not None)


def _identify_baseline(point: Point, recipe: Recipe) -> str | None:
    """The same text for points that would train the same baseline; None where none is trained."""
    content = dump_recipe(recipe)
    start = recipe.model.weights
    settings = content["baseline" if start is None else "fine_tune"]
    if settings is None:
        return None
    settings.pop("compile")
    told = [content["model"], content["data"], settings, point.data, point.seed]
    return json.dumps(told, sort_keys=True)
