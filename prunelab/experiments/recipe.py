"""Experiments as data: a YAML file of a few lines for each row of the paper's tables."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from prunelab.measure import check_budget
from prunelab.models import is_trusted
from prunelab.pruning import check_ratio
from prunelab.training import FINE_TUNING, RETRAINING, TrainSettings
from prunelab.utils.checks import (
    CONFIG,
    Fraction,
    Number,
    Switch,
    Whole,
    did_you_mean,
    explain,
)

# libyaml's, where PyYAML was built with it: a sweep reads thousands
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
LONGEST, DEEPEST, MOST = 2**20, 30, 10**5  # bytes of a file of settings; its values
RECIPES = Path(__file__).parent / "recipes"  # a folder for each network


class _Section(BaseModel):
    model_config = CONFIG


class DataRecipe(_Section):
    """What to learn from; the arguments of `load_data`."""

    source: str = "cifar10"
    label: str | None = None
    normalization: str | tuple[tuple[float, ...], tuple[float, ...]] | None = None
    image_size: Annotated[Whole, Field(ge=1)] | None = None
    val_fraction: Fraction = 0.1


class ModelRecipe(_Section):
    """Which network; the arguments of `load_model`."""

    name: str
    num_classes: Annotated[Whole, Field(ge=1)] | None = None  # None: as many as the data has
    weights: str | None = None  # these take the place of a trained baseline, or begin it
    new_head: Switch = False  # all but the last layer is taken from them

    @model_validator(mode="after")
    def _check_head(self) -> Self:
        if self.new_head and self.weights is None:
            raise ValueError("new_head leaves out the last layer of weights: give model.weights")
        return self


class PruneRecipe(_Section):
    """Which filters go; the arguments of `make_plan`, or of `choose_ratios`."""

    ratios: dict[str, Number] = {}
    # in their place: how much may be left of the multiply-adds, in the layers that harm least
    max_flops: Number | None = None
    per: Literal["layer", "stage"] = "layer"  # what gets a ratio then
    skip: tuple[str, ...] = ()
    criterion: str = "l1"
    strategy: str = "independent"
    order: str = "smallest"
    rounding: str = "ceil"
    align: Annotated[Whole, Field(ge=1)] = 1
    # filters that stay or go by hand, in any schedule at its first step
    keep: dict[str, tuple[Whole, ...]] = {}
    drop: dict[str, tuple[Whole, ...]] = {}
    # what goes before a retraining
    schedule: Literal["once", "layer by layer", "filter by filter", "rounds"] = "once"
    # for the last of these: the ratios are reached in as many equal steps
    rounds: Annotated[Whole, Field(ge=1)] = 1

    @field_validator("ratios")
    @classmethod
    def _check_ratios(cls, ratios: dict[str, float]) -> dict[str, float]:
        for key, ratio in ratios.items():
            check_ratio(key, ratio)
        return ratios

    @model_validator(mode="after")
    def _check_budget(self) -> Self:
        if self.max_flops is not None:
            check_budget("max_flops", self.max_flops)
        if ("ratios" in self.model_fields_set) == (self.max_flops is not None):
            raise ValueError(
                "give ratios (prune.ratios={stage1: 0.5}) or a budget to choose them by "
                "(prune.max_flops=0.7: at most 70 % of the multiply-adds are left), one of the two"
            )
        return self

    @model_validator(mode="after")
    def _check_rounds(self) -> Self:
        if (self.rounds > 1) != (self.schedule == "rounds"):
            raise ValueError(
                "schedule 'rounds' and rounds of 2 or more need each other "
                "(prune.schedule=rounds, prune.rounds=3); "
                f"got schedule {self.schedule!r} and rounds {self.rounds}"
            )
        return self

    @model_serializer(mode="wrap")
    def _leave_out_unused(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without picks and budget where there are none, as runs were noted before these."""
        unused = {name for name in ("keep", "drop") if not getattr(self, name)}
        unused |= {"max_flops", "per"} if self.max_flops is None else {"ratios"}
        return {k: v for k, v in dump(self).items() if k not in unused}

    @property
    def all_ratios(self) -> dict[str, float]:
        """`ratios`, and 0 for the layers in `skip`."""
        return {**self.ratios, **dict.fromkeys(self.skip, 0.0)}


class Recipe(_Section):
    """An experiment: a network, data, and what is done with them. `load_recipe` reads one.

    Attributes:
        name: the file's, without its ending.
        title: one line for people.
        paper: the row of `data/paper/table1.csv` to compare with.
        model: which network: `name`, `num_classes` (None: as many as the data has), `weights`,
            which take the place of a trained baseline or begin it, and `new_head`; the arguments of
            `load_model`.
        data: what to learn from; the arguments of `load_data`, and `source` is its name or folder.
        shortcuts: False leaves projection shortcuts out of the cost, as the paper's ResNet-34 rows
            do.
        baseline: how the network learns before it is pruned, and how the scratch one does.
        fine_tune: how the baseline is trained on from `model.weights`; None: it is not.
        sensitivity: layers or stages to measure.
        prune: which filters go; the arguments of `make_plan`, `skip` (layers that stay whole),
            `schedule` and `rounds`; or `max_flops` in place of `ratios`, which are then chosen by
            `choose_ratios`. None: none go.
        retrain: how the pruned network learns; None: it does not.
        continued: whether the whole network is trained on for as long as the pruned one is
            retrained, so that what more training wins is not put down to pruning.
        scratch: the pruned network from fresh weights, with as many epochs as the baseline (`E`) or
            as many operations (`B`); None: not at all.
        baseline_from: the recipe whose baseline is shared.
    """

    # of files and folders, too
    name: Annotated[str, Field(pattern=r"^[^/\\\x00-\x1f]+$", max_length=200)]
    title: str
    paper: str | None = None
    model: ModelRecipe
    data: DataRecipe = DataRecipe()
    shortcuts: Switch = True
    baseline: TrainSettings = TrainSettings()
    fine_tune: TrainSettings | None = None
    sensitivity: tuple[str, ...] = ()
    prune: PruneRecipe | None = None
    retrain: TrainSettings | None = RETRAINING
    continued: Switch = False
    scratch: Literal["E", "B"] | None = None
    baseline_from: str | None = None

    @field_validator("fine_tune", mode="before")
    @classmethod
    def _complete(cls, given: Any) -> Any:
        """What is not said of fine-tuning is as in `FINE_TUNING`, not as of a fresh network."""
        return {**asdict(FINE_TUNING), **given} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _check_start(self) -> Self:
        if self.fine_tune is not None and self.model.weights is None:
            raise ValueError("fine_tune trains on from weights: give model.weights")
        if self.model.new_head and self.fine_tune is None:
            raise ValueError(
                "a new last layer has learned nothing: say how it learns, fine_tune.epochs=10"
            )
        return self


def recipe_names() -> list[str]:
    """The recipes that come with prunelab.

    Returns:
        Names that `load_recipe` takes, each row of Table 1, `digits-quick`, and `resnet20-pruned-b`
        for a CPU.
    """
    return sorted(_shipped())


def _shipped() -> dict[str, Path]:
    return {path.stem: path for path in RECIPES.rglob("*.yaml")}


def load_recipe(name_or_path: str | Path, changes: Iterable[str] = ()) -> Recipe:
    """The recipe of a name or of a YAML file.

    Args:
        name_or_path: one of `recipe_names()`, `resnet56-pruned-b` say, or a file that ends in
            `.yaml`. `extends:` in a file names the recipe it builds on.
        changes: settings to change, as `"retrain.epochs=2"`.

    Returns:
        The recipe, checked.

    Raises:
        ValueError: an unknown recipe, key or value; it names the nearest. A file whose network is a
            function that you have not named yourself, here or before on this machine.
        FileNotFoundError: there is no such file.

    Example:
        >>> load_recipe("vgg16-pruned-a", ["retrain.epochs=2"]).retrain.epochs
        2
    """
    content, told = _read_yaml(name_or_path), list(changes)
    for change in told:
        change_setting(content, change)
    recipe = check_recipe(content, f"recipe {str(name_or_path)!r}")
    model = recipe.model.name
    if not is_trusted(model) and not any(change.startswith("model.name=") for change in told):
        raise ValueError(
            f"recipe {str(name_or_path)!r} names a function, {model}, and code is not run because "
            f"a file asks for it; if you trust it, say so once: --set model.name={model}"
        )
    return recipe


def check_recipe(content: Mapping[str, Any], what: str) -> Recipe:
    """The recipe of plain JSON values, as `dump_recipe` gives; a ValueError begins with `what`."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"{what}: {explain(error, _fields)}") from None


def change_recipe(
    recipe: Recipe,
    *,
    weights: str | Path | None = None,
    normalization: str | None = None,
    image_size: int | None = None,
    label: str | None = None,
) -> Recipe:
    """The recipe with other weights, or data that is read otherwise; what is empty stays as it is.

    ValueError where the settings do not go together.
    """
    content = dump_recipe(recipe)
    if weights:
        content["model"]["weights"] = str(weights)
    told = {"normalization": normalization, "image_size": image_size, "label": label}
    content["data"] |= {name: value for name, value in told.items() if value}
    return check_recipe(content, f"recipe {recipe.name!r}")


def dump_recipe(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain JSON values."""
    return recipe.model_dump(mode="json")


def _read_yaml(name_or_path: str | Path, above: tuple[str, ...] = ()) -> dict[str, Any]:
    name = str(name_or_path)
    if name in above:
        raise ValueError(f"recipe {above[0]!r} extends itself: {' → '.join((*above, name))}")
    above = (*above, name)
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise FileNotFoundError(f"there is no recipe file {name}")
        name, text = Path(name).stem, read_yaml_text(Path(name))
    elif name in (known := recipe_names()):
        text = _shipped()[name].read_text(encoding="utf-8")
    else:
        raise ValueError(
            f"unknown recipe {name!r}{did_you_mean(name, known)}Known: {', '.join(known)}, or a "
            ".yaml file"
        )
    own = parse_yaml(f"recipe {name!r}", text, "model: {name: resnet20}")
    base = _read_yaml(own.pop("extends"), above) if "extends" in own else {}
    return {**_merge(base, own), "name": name}


def read_yaml_text(path: Path) -> str:
    """The text of a file of a few settings; ValueError for what can be none."""
    if path.stat().st_size > LONGEST:
        raise ValueError(f"{path} is no file of settings: it has more than {LONGEST} bytes")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error}); save it in UTF-8") from error


def _load_yaml(what: str, text: str) -> Any:
    try:
        _check_size(text)
        return yaml.load(text, LOADER)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ValueError(f"{what} is not YAML: {' '.join(str(error).split())}") from error


def _check_size(text: str) -> None:
    """ValueError for a text nested so deep that libyaml dies of it, or grown by its aliases."""
    sizes: dict[str | None, int] = {}  # of what has an anchor
    counts, anchors = [0], []
    for event in yaml.parse(text, LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            counts.append(0)
            anchors.append(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            sizes[anchors.pop()] = size = counts.pop() + 1
            counts[-1] += size
        elif isinstance(event, yaml.AliasEvent):
            counts[-1] += sizes.get(event.anchor, MOST + 1)  # within itself it has no end
        elif isinstance(event, yaml.ScalarEvent):
            counts[-1] += 1
            sizes[event.anchor] = 1
        if counts[-1] > MOST or len(counts) > DEEPEST:
            raise ValueError(
                f"it is nested more than {DEEPEST} deep, or has more than {MOST} values"
            )


def parse_yaml(what: str, text: str, example: str) -> dict[str, Any]:
    """The keys and values of a YAML text; a ValueError begins with `what`."""
    content = _load_yaml(what, text)
    if not isinstance(content, dict):
        raise ValueError(f"{what} must hold keys and values, such as `{example}`")
    return content


def _merge(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Own settings over those of the recipe below; sections are merged, but for `prune`."""
    merged = dict(base)
    for key, value in own.items():
        below = base.get(key)
        sections = isinstance(below, dict) and isinstance(value, dict) and key != "prune"
        merged[key] = _merge(below, value) if sections else value  # type: ignore[arg-type]
    return merged


def change_setting(content: dict[str, Any], change: str) -> None:
    """Change a recipe's content, not checked yet, by `key=value`; ValueError for no such text."""
    path, value = read_setting(change)
    *sections, key = path.split(".")
    for section in sections:
        if section == "retrain":
            content.setdefault(section, asdict(RETRAINING))
        elif content.get(section) is None:
            content[section] = {}
        content = content[section]
        if not isinstance(content, dict):
            raise ValueError(
                f"cannot change {path!r}: {section!r} holds {content!r} and no settings"
            )
    content[key] = value


def read_setting(change: str) -> tuple[str, Any]:
    """Key and value of `key=value`."""
    path, equals, text = change.partition("=")
    if not equals or not path:
        raise ValueError(
            f"a setting is changed by key=value, such as retrain.epochs=2; got {change!r}"
        )
    return path, _load_yaml(repr(change), text)


def _fields(where: tuple[Any, ...]) -> list[str]:
    sections: dict[str, Any] = {"data": DataRecipe, "model": ModelRecipe, "prune": PruneRecipe}
    if not where:
        return list(Recipe.model_fields)
    if where[0] in sections:
        return list(sections[where[0]].model_fields)
    return [field.name for field in fields(TrainSettings)]
