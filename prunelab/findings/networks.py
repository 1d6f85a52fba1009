"""Networks that learned photographs, and networks beside what is printed, line by line."""

import pandas as pd
import torch
from torch import nn

from prunelab.experiments import load_recipe, read_paper
from prunelab.findings.words import join, percent
from prunelab.graph import trace
from prunelab.models import load_model
from prunelab.pruning import make_plan, measure_cost
from prunelab.utils.paths import find_shipped

# {weights in data/checkpoints: network, and the photographs that it was trained on}
TRAINED = {
    "resnet20-cifar10-jpeg": ("resnet20", "CIFAR-10 (JPEG)"),
    "vgg16-cifar10-jpeg": ("vgg16", "CIFAR-10 (JPEG)"),
    "vgg16_x0_25-cifar10-jpeg": ("vgg16_x0_25", "CIFAR-10 (JPEG)"),
    "longer/vgg16_x0_25-cifar10-jpeg": ("vgg16_x0_25", "CIFAR-10 (JPEG), 64 epochs"),
    "resnet56-cifar10-jpeg": ("resnet56", "CIFAR-10 (JPEG)"),
}


def load_trained() -> dict[tuple[str, str], nn.Module]:
    """The networks of `data/checkpoints` that learned photographs: norms need no image.

    Returns:
        {(model, data): network}, of those whose weights are there.

    Example:
        >>> for (model, data), network in findings.load_trained().items():
        ...     print(model, data)
    """
    found = {}
    for name, (model, data) in TRAINED.items():
        try:
            path = find_shipped(f"data/checkpoints/{name}.safetensors")
        except FileNotFoundError:  # not trained yet
            continue
        found[model, data] = load_model(model, weights=path)
    return found


def read_ratios(recipe: str) -> dict[str, float]:
    """The ratios of a recipe.

    Args:
        recipe: its name.

    Returns:
        As `make_plan` takes them; none where the recipe prunes nothing.

    Example:
        >>> plan = make_plan(graph, findings.read_ratios("vgg16-pruned-a"))
    """
    prune = load_recipe(recipe).prune
    return prune.all_ratios if prune else {}


def count_table_2() -> pd.DataFrame:
    """Table 2 of Li et al. 2017, VGG-16 on CIFAR-10: each printed line beside what we count.

    Returns:
        A row for each line, with the total last. Columns, printed and counted, in the paper's
        digits: multiply-adds, parameters, % of the multiply-adds removed, maps, maps left; and
        whether all agrees.

    Example:
        >>> findings.count_table_2()
    """
    printed = pd.read_csv(find_shipped("data/paper/table2.csv")).set_index("layer")
    graph = trace(load_model("vgg16"), torch.zeros(1, 3, 32, 32))
    cost = measure_cost(graph, make_plan(graph, read_ratios("vgg16-pruned-a")))
    cost = cost.set_index("paper_name").drop(columns="layer")
    cost.loc["total"] = cost.sum()
    rows: list[dict[tuple[str, str], object]] = []
    for name, line in printed.iterrows():
        ours = cost.loc[str(name)]
        gone = 100 * (1 - ours["flops_after"] / ours["flops"])
        pairs = {
            "multiply-adds": (f"{line['flops']:.1e}", f"{ours['flops']:.1e}"),
            "parameters": (f"{line['params']:.1e}", f"{ours['params']:.1e}"),
            "% removed": (f"{line['flops_pruned_percent']:.0f}", f"{gone:.0f}"),
            "maps": (f"{line['maps']:.0f}", f"{ours['maps']:.0f}"),
            "maps left": (f"{line['maps_pruned']:.0f}", f"{ours['maps_after']:.0f}"),
        }
        if name == "total":  # no maps are printed there
            pairs |= {"maps": ("", ""), "maps left": ("", "")}
        row: dict[tuple[str, str], object] = {}
        for what, pair in pairs.items():
            row |= {(what, "printed"): pair[0], (what, "counted"): pair[1]}
        rows.append(row | {("", "agrees"): all(one == other for one, other in pairs.values())})
    columns = pd.MultiIndex.from_tuples(list(rows[0]))
    values = [list(row.values()) for row in rows]
    return pd.DataFrame(values, index=printed.index.rename("line"), columns=columns)


def describe_table_2(counted: pd.DataFrame) -> str:
    """How many lines of Table 2 our counts land on.

    Args:
        counted: of `count_table_2`.

    Example:
        >>> findings.say(findings.describe_table_2(findings.count_table_2()))
    """
    agrees = counted["", "agrees"]
    convs = agrees[agrees.index.str.startswith("conv_")]
    said = f"{convs.sum()} of {len(convs)} lines of convolutions agree in every printed digit, "
    said += f"and {agrees.sum() - convs.sum()} of the {len(agrees) - len(convs)} others."
    if missed := list(agrees.index[~agrees]):
        said += f" Not so: {join(missed)}."
    return said


def compare_with_table_1(recipe: str, cost: pd.DataFrame) -> str:
    """What a recipe removes, counted and as Table 1 of Li et al. 2017 prints it.

    Args:
        recipe: its name.
        cost: of `measure_cost`, with its plan.

    Returns:
        Sentences; they say so where Table 1 has no such row.

    Example:
        >>> findings.say(findings.compare_with_table_1("vgg16-pruned-a", cost))
    """
    row, table = load_recipe(recipe).paper or "", read_paper()
    lines = []
    for name, word in (("flops", "multiply-adds"), ("params", "parameters")):
        gone = percent(1 - cost[f"{name}_after"].sum() / cost[name].sum(), 2)
        beside = "Table 1 has no such row"
        if row in table.index:
            beside = f"{table[f'{name}_pruned_percent'][row]} % in Table 1"
        lines.append(f"{recipe} removes {gone} of the {word}; {beside}.")
    return "\n".join(lines)
