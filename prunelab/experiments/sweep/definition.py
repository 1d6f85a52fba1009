"""A sweep as data: recipes, seeds and settings in a few lines of YAML."""

import itertools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from prunelab.experiments.recipe import parse_yaml, read_setting, read_yaml_text
from prunelab.utils.checks import CONFIG, Number, Seed, did_you_mean, explain

SHIPPED = Path(__file__).parent / "shipped"
# of a table of points, beside those of the settings
COLUMNS = set(
    """point seed recipe for_others state epoch epochs error notebook paper kind model dataset start
    start_sha256 evidence n_train n_test test_accuracy n_val val_accuracy val_accuracy_best
    test_accuracy_best flops params params_all flops_removed params_removed seconds device
    processes torch latency_ms latency_batch threads weights""".split()
)


class Sweep(BaseModel):
    """Recipes × settings × seeds: a point for each, and each point a replay.

    `grid`, `list` and `zip` are multiplied with each other. Their keys are settings of recipes, as
    `retrain.lr`; or names of your own, which `set` uses in braces: `set: {prune.ratios: {"{layer}":
    0.5}}` and `grid: {layer: [conv_2, conv_3]}`.

    Attributes:
        name: the file's, without its ending.
        title: one line for people.
        recipes: names, or `.yaml` files.
        seeds: each of which every point is run with.
        data: a data set's name or its folder; empty: the recipes' own.
        device: `auto`, `cpu`, `cuda`.
        resources: what a worker must have to run a point, on Dask; None: a GPU for `cuda`, or for
            `auto` where a worker has one.
        settings: (`set`) what is changed in every point.
        grid: {key: values}, every combination.
        listed: (`list`) combinations, written out.
        zipped: (`zip`) {key: values}, the first ones together, then the second ones, ….
    """

    model_config = ConfigDict(**CONFIG, populate_by_name=True)

    name: str
    title: str
    recipes: tuple[str, ...] = Field(min_length=1)
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)
    data: str = ""
    device: str = "auto"
    resources: dict[str, Number] | None = None
    settings: dict[str, Any] = Field(default={}, alias="set")
    grid: dict[str, tuple[Any, ...]] = {}
    listed: tuple[dict[str, Any], ...] = Field(default=(), alias="list")
    zipped: dict[str, tuple[Any, ...]] = Field(default={}, alias="zip")

    @field_validator("recipes", mode="before")
    @classmethod
    def _one_or_more(cls, given: Any) -> Any:
        return [given] if isinstance(given, str) else given

    @field_validator("recipes", "seeds")
    @classmethod
    def _each_once(cls, given: tuple[Any, ...]) -> tuple[Any, ...]:
        twice = {item for item in given if given.count(item) > 1}
        if twice:
            raise ValueError(f"{', '.join(map(str, twice))} is there twice")
        return given

    @field_validator("device")
    @classmethod
    def _check_device(cls, given: str) -> str:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", given):
            raise ValueError("a device is auto, cpu, cuda, cuda:1, …")
        return given

    @field_validator("grid", "zipped")
    @classmethod
    def _not_empty(cls, given: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        for key, values in given.items():
            if not values:
                raise ValueError(f"{key} has no values: give a list, such as [0.01, 0.001]")
        return given

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        lengths = {key: len(values) for key, values in self.zipped.items()}
        if len(set(lengths.values())) > 1:
            said = ", ".join(f"{key} has {n}" for key, n in lengths.items())
            raise ValueError(f"zip takes values one by one, so all need as many: {said}")
        in_list = {key for entry in self.listed for key in entry}
        both = (self.grid.keys() & in_list) | (self.grid.keys() & self.zipped.keys())
        both |= in_list & self.zipped.keys()
        if both:
            raise ValueError(
                f"{', '.join(sorted(both))} stands in more than one of grid, list, zip"
            )
        if both := (set(self.grid) | in_list | set(self.zipped)) & self.settings.keys():
            raise ValueError(f"{', '.join(sorted(both))} stands in set, too; take it out there")
        used: set[str] = set()
        self.combinations(used)
        if odd := used & COLUMNS:
            raise ValueError(
                f"{', '.join(sorted(odd))} is a column of the table of points; use another name "
                "of your own"
            )
        return self

    def combinations(
        self, names: set[str] | None = None
    ) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """For each point but for recipes and seeds: what varies, and all that is set.

        names: gets those of your own.
        """
        values = itertools.product(*self.grid.values())
        grid = [dict(zip(self.grid, each, strict=True)) for each in values]
        rows = [
            dict(zip(self.zipped, values, strict=True))
            for values in zip(*self.zipped.values(), strict=True)
        ]
        made = []
        for parts in itertools.product(grid, self.listed or [{}], rows or [{}]):
            varied = {key: value for part in parts for key, value in part.items()}
            used: set[str] = set()
            fixed = _fill(self.settings, varied, used)
            if names is not None:
                names |= used
            made.append((varied, {**fixed, **{k: v for k, v in varied.items() if k not in used}}))
        return made


def _fill(value: Any, variables: dict[str, Any], used: set[str]) -> Any:
    """The value with each `{name}` in it replaced; used: gets the names."""
    if isinstance(value, dict):
        return {
            str(_fill(key, variables, used)): _fill(item, variables, used)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_fill(item, variables, used) for item in value]
    if isinstance(value, str) and value.startswith("{") and value.endswith("}"):
        name = value[1:-1]
        if name not in variables:
            hint = did_you_mean(name, variables)
            raise ValueError(
                f"set uses {value!r}, which grid, list and zip do not have{hint}They have: "
                f"{', '.join(variables) or 'nothing'}"
            )
        used.add(name)
        return variables[name]
    return value


def sweep_names() -> list[str]:
    """The sweeps that come with prunelab."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def load_sweep(name_or_path: str | Path, changes: Iterable[str] = ()) -> Sweep:
    """The sweep of a name or of a YAML file.

    Args:
        name_or_path: `table1-cifar`, `figure-2c`, `learning-rates`, `digits-small`, or a file that
            ends in `.yaml`.
        changes: settings to change in every point, as `"baseline.epochs=2"`.

    Returns:
        The sweep, checked; its recipes and settings are checked by `run_sweep`.

    Raises:
        ValueError: an unknown sweep, key or value; it names the nearest.
        FileNotFoundError: there is no such file.

    Example:
        >>> load_sweep("digits-small").seeds
        (0, 1)
    """
    name = str(name_or_path)
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise FileNotFoundError(f"there is no sweep file {name}")
    elif name in sweep_names():
        path = SHIPPED / f"{name}.yaml"
    else:
        raise ValueError(
            f"unknown sweep {name!r}{did_you_mean(name, sweep_names())}Known: "
            f"{', '.join(sweep_names())}, or a .yaml file"
        )
    what = f"sweep {name!r}"
    content = parse_yaml(what, read_yaml_text(path), "recipes: digits-quick")
    if "recipe" in content and "recipes" not in content:
        content["recipes"] = content.pop("recipe")
    if isinstance(settings := content.get("set") or {}, dict) and (told := list(changes)):
        content["set"] = settings | dict(map(read_setting, told))
    content = {"title": path.stem, **content, "name": path.stem}
    try:
        return Sweep.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"{what}: {explain(error, lambda _: _KEYS)}") from None


_KEYS = [field.alias or name for name, field in Sweep.model_fields.items()]
