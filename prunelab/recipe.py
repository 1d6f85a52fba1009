"""Experiments as data: a YAML file of a few lines for each row of the paper's tables."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from prunelab.plan import check_ratio
from prunelab.training import RETRAINING, TrainSettings


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataRecipe(_Section):
    """What to learn from; the arguments of `load_data`."""

    source: str = "cifar10"
    label: str | None = None
    normalization: str | tuple[tuple[float, ...], tuple[float, ...]] | None = None
    image_size: int | None = None
    val_fraction: float = 0.1


class ModelRecipe(_Section):
    """Which network; the arguments of `load_model`."""

    name: str
    num_classes: int | None = None  # None: as many as the data has
    weights: str | None = None  # these take the place of a trained baseline


class PruneRecipe(_Section):
    """Which filters go; the arguments of `make_plan`."""

    ratios: dict[str, float]
    skip: tuple[str, ...] = ()
    criterion: str = "l1"
    strategy: str = "independent"
    order: str = "smallest"
    rounding: str = "ceil"
    align: int = 1
    schedule: Literal["once", "layer by layer", "filter by filter", "rounds"] = "once"  # what goes before a retraining
    rounds: int = Field(default=1, ge=1)  # for the last of these: the ratios are reached in as many equal steps

    @field_validator("ratios")
    @classmethod
    def _check_ratios(cls, ratios: dict[str, float]) -> dict[str, float]:
        for key, ratio in ratios.items():
            check_ratio(key, ratio)
        return ratios

    @model_validator(mode="after")
    def _check_rounds(self) -> Self:
        if (self.rounds > 1) != (self.schedule == "rounds"):
            raise ValueError(
                f"schedule 'rounds' and rounds of 2 or more need each other (prune.schedule=rounds, prune.rounds=3); "
                f"got schedule {self.schedule!r} and rounds {self.rounds}"
            )
        return self

    @property
    def all_ratios(self) -> dict[str, float]:
        """`ratios`, and 0 for the layers in `skip`."""
        return {**self.ratios, **dict.fromkeys(self.skip, 0.0)}


class Recipe(_Section):
    """An experiment: a network, data, and what is done with them. `load_recipe` reads one."""

    name: str
    title: str
    paper: str | None = None  # the row of data/paper/*.csv to compare with
    model: ModelRecipe
    data: DataRecipe = DataRecipe()
    shortcuts: bool = True  # False leaves projection shortcuts out of the cost, as the paper's ResNet-34 rows do
    baseline: TrainSettings = TrainSettings()
    sensitivity: tuple[str, ...] = ()  # layers or stages to measure
    prune: PruneRecipe | None = None
    retrain: TrainSettings | None = RETRAINING
    scratch: Literal["E", "B"] | None = None  # as many epochs as the baseline, or as many operations
    baseline_from: str | None = Field(default=None, description="the recipe whose baseline is shared")


SHIPPED = files("prunelab") / "recipes"


def recipe_names() -> list[str]:
    """The recipes that come with prunelab: each row of Table 1, `digits-quick`, and `resnet20-pruned-b` for a CPU."""
    return sorted(item.name.removesuffix(".yaml") for item in SHIPPED.iterdir() if item.name.endswith(".yaml"))


def load_recipe(name_or_path: str | Path, changes: Iterable[str] = ()) -> Recipe:
    """The recipe of a name (`resnet56-pruned-b`) or of a YAML file.

    changes: settings to change, as `"retrain.epochs=2"`. `extends:` in a file names the recipe it builds on.
    Raises ValueError for an unknown recipe, key or value (it names the nearest); FileNotFoundError.

    >>> load_recipe("vgg16-pruned-a", ["retrain.epochs=2"]).retrain.epochs
    2
    """
    content = _read(name_or_path)
    for change in changes:
        _change(content, change)
    return check_recipe(content, f"recipe {str(name_or_path)!r}")


def check_recipe(content: Mapping[str, Any], what: str) -> Recipe:
    """The recipe of plain JSON values, such as `dump_recipe` returns; ValueError begins with `what`."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"{what}: {_explain(error)}") from None


def dump_recipe(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain JSON values."""
    return recipe.model_dump(mode="json")


def _read(name_or_path: str | Path, above: tuple[str, ...] = ()) -> dict[str, Any]:
    name = str(name_or_path)
    if name in above:
        raise ValueError(f"recipe {above[0]!r} extends itself: {' → '.join((*above, name))}")
    above = (*above, name)
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise FileNotFoundError(f"there is no recipe file {name}")
        name, text = Path(name).stem, Path(name).read_text(encoding="utf-8")
    elif name in recipe_names():
        text = (SHIPPED / f"{name}.yaml").read_text(encoding="utf-8")
    else:
        near = difflib.get_close_matches(name, recipe_names(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown recipe {name!r}; {hint}Known: {', '.join(recipe_names())}, or a .yaml file")
    try:
        own = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"recipe {name!r} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(own, dict):
        raise ValueError(f"recipe {name!r} must hold keys and values, such as `model: {{name: resnet20}}`")
    base = _read(own.pop("extends"), above) if "extends" in own else {}
    return {**_merge(base, own), "name": name}


def _merge(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _merge(base[key], own[key])
        if isinstance(base.get(key), dict) and isinstance(own.get(key), dict) and key != "prune"
        else own.get(key, base.get(key))
        for key in [*base, *(key for key in own if key not in base)]
    }


def _change(content: dict[str, Any], change: str) -> None:
    path, equals, text = change.partition("=")
    if not equals or not path:
        raise ValueError(f"a setting is changed by key=value, such as retrain.epochs=2; got {change!r}")
    *sections, key = path.split(".")
    for section in sections:
        content.setdefault(section, asdict(RETRAINING) if section == "retrain" else {})
        content = content[section]
        if not isinstance(content, dict):
            raise ValueError(f"cannot change {path!r}: {section!r} holds {content!r} and no settings")
    content[key] = yaml.safe_load(text)


def _explain(error: ValidationError) -> str:
    sentences = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            known = _fields(problem["loc"][:-1])
            near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            sentences.append(f"unknown key {where!r}; {hint}Known: {', '.join(known)}")
        elif problem["type"] == "missing":
            sentences.append(f"{where!r} is missing")
        else:
            got = "" if isinstance(problem["input"], dict) else f", got {problem['input']!r}"
            sentences.append(f"{where!r}: {problem['msg'].removeprefix('Value error, ')}{got}")
    return "; ".join(sentences)


def _fields(where: tuple[Any, ...]) -> list[str]:
    sections: dict[str, Any] = {"data": DataRecipe, "model": ModelRecipe, "prune": PruneRecipe}
    if not where:
        return list(Recipe.model_fields)
    section = sections.get(where[0])
    return list(section.model_fields) if section else [field.name for field in fields(TrainSettings)]
