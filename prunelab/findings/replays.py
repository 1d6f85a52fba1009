"""What replays stand on, what they say, and which rows of the paper's Table 1 they are."""

import pandas as pd

from prunelab.experiments import (
    find_printed,
    load_recipe,
    pair_rows,
    read_paper,
    recipe_names,
)
from prunelab.findings.words import compare_arms, differ, join, signed
from prunelab.utils.intervals import difference, over_runs, wilson

RUN = ["recipe", "dataset", "seed", "device"]  # networks of one replay
TRAINED = "trained"  # in the column start: from fresh weights, not from a file of them
STATES = ("in full", "in part", "weights of others", "not yet")
CONTROLS = ("continued", "scratch-E", "scratch-B")  # what retraining has to beat, too
ALONE = "-scratch"  # at the end of a recipe that trains another's small network from scratch


def count_right(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of replays as the arms of a comparison.

    Args:
        rows: of `read_rows` or `Experiment.report`.

    Returns:
        The rows with the columns correct and total, of the test images.

    Example:
        >>> findings.compare_arms(findings.count_right(run.report()), name="kind")
    """
    correct = (rows["test_accuracy"] * rows["n_test"]).round().astype(int)
    return rows.assign(correct=correct, total=rows["n_test"].astype(int))


def list_replayed(rows: pd.DataFrame, paper: pd.DataFrame | None = None) -> pd.DataFrame:
    """Every row of the paper's Table 1, and how far it is replayed.

    Args:
        rows: of `read_rows`.
        paper: of `read_paper()`, when at hand.

    Returns:
        A line for each printed row: replayed (`in full`, with as many epochs as the paper, from a
        baseline that had them, too; `in part`; `weights of others`, a baseline that we did not
        train; `not yet`), n (seeds), epochs (of those of the paper, the baseline's first), error %
        (test, last epoch, mean over the seeds ± their standard deviation, and the 95 % interval of
        the test images), removed % (of the multiply-adds), the paper's of both, and data. Where
        there are several replays of a row, the one with the most epochs.

    Example:
        >>> findings.list_replayed(read_rows())
    """
    paper = read_paper() if paper is None else paper
    rows = _fill_columns(rows)
    best: dict[str, tuple[float, dict[str, object]]] = {}
    known = rows[rows["paper"].isin(recipe_names())]
    for (recipe, kind, dataset), found in known.groupby(["recipe", "kind", "dataset"], sort=False):
        name = find_printed(str(found["paper"].iloc[0]), str(kind))
        if name not in paper.index:
            continue
        run = known[(known["recipe"] == recipe) & (known["dataset"] == dataset)]
        steps = [_count_epochs(run, step) for step in _list_steps(str(kind))]
        share = min(done / planned for done, planned, _ in steps)
        own = any(done for done, _, _ in steps)
        removed = found["flops_removed"].iloc[0]
        line = {
            "replayed": STATES[0] if share >= 1 else STATES[1] if own else STATES[2],
            "n": str(found["seed"].nunique()),
            "epochs": ", then ".join(said for _, _, said in steps),
            "error %": _tell_error(found),
            "removed %": f"{100 * removed:.1f}" if removed > 0 else "",
            "data": dataset,
        }
        if name not in best or share > best[name][0]:
            best[name] = share, line
    lines = [best[name][1] if name in best else {"replayed": STATES[3]} for name in paper.index]
    columns = ["replayed", "n", "epochs", "error %", "paper's error %", "removed %"]
    columns += ["paper removed %", "data"]
    printed = {"paper's error %": paper["error_percent"].map("{:.2f}".format)}
    saved = paper["flops_pruned_percent"]
    printed["paper removed %"] = saved.map("{:.1f}".format).where(saved.notna(), "")
    table = pd.DataFrame(lines, paper.index).assign(**printed)
    return table.reindex(columns=columns).astype(object).fillna("")


def _tell_error(rows: pd.DataFrame) -> str:
    """The mean error of the seeds, how they spread, and the 95 % interval of the test images."""
    errors = 100 * (1 - rows["test_accuracy"])
    spread = f" ± {errors.std():.2f}" if len(errors) > 1 else ""
    low, high = wilson(*_mean_count(rows))
    return f"{errors.mean():.2f}{spread} ({100 * (1 - high):.1f}–{100 * (1 - low):.1f})"


def _mean_count(rows: pd.DataFrame) -> tuple[int, int]:
    """(correct, total) of the test images, on average over the seeds."""
    total = int(rows["n_test"].min())
    return round(float(rows["test_accuracy"].mean()) * total), total


def list_changes(rows: pd.DataFrame, paper: pd.DataFrame | None = None) -> pd.DataFrame:
    """How far trained networks are from the baseline that they were pruned from.

    Pruned ones that were not retrained are left out: they are ten and more times as far.

    Args:
        rows: of `read_rows`.
        paper: of `read_paper()`, when at hand.

    Returns:
        A row for each recipe, data set and kind of network: ours, each seed where there are
        several, and, where Table 1 has it, the paper's. Columns network (recipe, what it saves,
        data), kind, whose (`ours`, `seed` or `paper`), n (seeds), change (test error less the
        baseline's of the same seed, in points, on average over the seeds), low and high (the 95 %
        interval of ours, by Newcombe 1998, as of separate images). Those of Table 1 come first, in
        its order.

    Example:
        >>> charts.changes(findings.list_changes(read_rows()))
    """
    paper = read_paper() if paper is None else paper
    columns = ["network", "kind", "whose", "n", "change", "low", "high"]
    lines = []
    groups = _join_scratch(_fill_columns(rows)).groupby(["recipe", "dataset"], sort=False)
    for (recipe, dataset), found in groups:
        removed = found.loc[found["flops_removed"] > 0, "flops_removed"]
        saved = f", −{100 * removed.iloc[0]:.1f} %" if len(removed) else ""
        network = f"{recipe}{saved}, {dataset}"
        for kind in ("retrained", *CONTROLS):
            own = _pair(found, kind, "baseline")
            if own.empty:
                continue
            base = own.assign(test_accuracy=own["beside"])
            low, high = difference(_mean_count(base), _mean_count(own))
            seeds = _by_seed(own)
            names = {"network": network, "kind": kind}
            bounds = {"change": seeds.mean(), "low": 100 * low, "high": 100 * high}
            lines.append(names | {"whose": "ours", "n": len(seeds)} | bounds)
            if len(seeds) > 1:
                lines += [names | {"whose": "seed", "n": 1, "change": one} for one in seeds]
            printed = [find_printed(str(own["paper"].iloc[0]), name) for name in ("baseline", kind)]
            if all(name in paper.index for name in printed):
                before, after = paper.loc[printed, "error_percent"]
                lines.append(names | {"whose": "paper", "n": 1, "change": after - before})
    order = {name: place for place, name in enumerate(paper.index)}
    lines.sort(key=lambda line: order.get(str(line["network"]).partition(",")[0], len(order)))
    return pd.DataFrame(lines, columns=columns).round(2)


def _fill_columns(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with all columns that are looked at, empty where a user's table lacks them."""
    return rows.reindex(columns=list(dict.fromkeys([*rows.columns, "paper", "flops_removed"])))


def _pair(rows: pd.DataFrame, kind: str, other: str) -> pd.DataFrame:
    """`pair_rows` of a kind and another, with the points of test error that it has more."""
    pairs = pair_rows(rows[rows["kind"] == kind], rows[rows["kind"] == other])
    return pairs.assign(more=100 * (pairs["beside"] - pairs["test_accuracy"]))


def _by_seed(pairs: pd.DataFrame) -> pd.Series:
    """How many points of test error more each seed has, on average over devices."""
    return pairs.groupby("seed")["more"].mean()


def _join_scratch(rows: pd.DataFrame) -> pd.DataFrame:
    """A replay with its networks from scratch, which may be a recipe of their own.

    They are joined where both have the same baseline. A baseline alone is left out where it is also
    that of a recipe that prunes.
    """
    if rows.empty:
        return rows
    partner = rows["recipe"].str.removesuffix(ALONE)
    base = rows[rows["kind"] == "baseline"].drop_duplicates(RUN).set_index(RUN)["test_accuracy"]
    same = [
        name != row["recipe"]
        and base.get((name, *row[RUN[1:]]), -1) == base.get(tuple(row[RUN]), -2)
        for name, (_, row) in zip(partner, rows.iterrows(), strict=True)
    ]
    joined = rows.assign(recipe=rows["recipe"].where(~pd.Series(same, rows.index), partner))
    joined = joined.iloc[pd.Series(same).argsort(kind="stable")]
    joined = joined.drop_duplicates([*RUN, "kind"])
    alone = joined.groupby(RUN)["kind"].transform("size") == 1
    key = ["model", "dataset", "seed", "device", "test_accuracy"]
    pruned_from = joined.loc[~alone & (joined["kind"] == "baseline"), key]
    known = pd.MultiIndex.from_frame(joined[key]).isin(pd.MultiIndex.from_frame(pruned_from))
    return joined[~(alone & (joined["kind"] == "baseline") & known)]


def describe_runs(rows: pd.DataFrame) -> str:
    """What each replay says, with what it stands on.

    Args:
        rows: of `read_rows`.

    Returns:
        A line for each recipe, data set and seed: how it differs from the paper's protocol; its
        networks beside its baseline; the retrained one beside the whole one, trained on for as
        long, and beside the one from scratch, which may be of a recipe of its own.

    Example:
        >>> findings.say(findings.describe_runs(read_rows()))
    """
    if rows.empty:
        return ""
    runs = (run for _, run in _join_scratch(_fill_columns(rows)).groupby(RUN, sort=False))
    return "\n".join(_describe_replay(count_right(run)) for run in runs)


def describe_standing(replayed: pd.DataFrame) -> str:
    """How many rows of Table 1 stand.

    Args:
        replayed: of `list_replayed`.

    Returns:
        A sentence.

    Example:
        >>> findings.say(findings.describe_standing(findings.list_replayed(read_rows())))
    """
    counts = replayed["replayed"].value_counts()
    told = [f"{counts.get(state, 0)} {state}" for state in STATES]
    data = sorted({*replayed["data"]} - {""})
    images = f" (images: {join(data)})" if data else ""
    return f"Rows of Table 1 that are replayed: {join(told)}, of {len(replayed)}{images}."


def describe_seeds(rows: pd.DataFrame) -> str:
    """On how many seeds the rows stand, and how far these differ.

    Args:
        rows: of `read_rows`.

    Returns:
        A sentence, and a line for each recipe and data set of several seeds: the change of each
        seed, their mean and, of three or more, its 95 % interval (Student's t, of paired runs).
        Nothing where there are no rows.

    Example:
        >>> findings.say(findings.describe_seeds(read_rows()))
    """
    if rows.empty:
        return ""
    sizes = rows.groupby(["recipe", "kind", "dataset"])["seed"].nunique()
    if sizes.max() == 1:
        return (
            f"Each of the {len(sizes)} rows stands on one seed (n is 1): the intervals are those "
            "of the test images, and what another seed would give is not known."
        )
    several = (sizes > 1).sum()
    lines = [f"{several} of {len(sizes)} rows stand on several seeds, {sizes.max()} at most."]
    groups = _join_scratch(_fill_columns(rows)).groupby(["recipe", "dataset"], sort=False)
    for (recipe, dataset), found in groups:
        kinds = [kind for kind in ("pruned", "retrained", *CONTROLS) if kind in set(found["kind"])]
        pairs = [(kind, "baseline") for kind in kinds]
        pairs += [("retrained", kind) for kind in CONTROLS]
        told = [said for pair in pairs if (said := _tell_seeds(found, *pair))]
        if told:
            lines.append(
                f"**{recipe} on {dataset}, seed by seed**, in points of test error more: "
                f"{'; '.join(told)}."
            )
    return "\n".join(lines)


def _tell_seeds(rows: pd.DataFrame, kind: str, other: str) -> str:
    """How far a kind is from another in each seed; nothing of a single one."""
    seeds = _by_seed(_pair(rows, kind, other))
    if len(seeds) < 2:
        return ""
    bounds = ""
    if len(seeds) > 2:  # two say next to nothing of what others would give
        low, high = over_runs(list(seeds))
        bounds = f" (95 % over seeds {signed(low, 1)} to {signed(high, 1)})"
    return (
        f"**{kind}** beside {other} {join(map(signed, seeds))}, {signed(seeds.mean())} on "
        f"average{bounds}"
    )


def _list_steps(kind: str) -> list[str]:
    """The trainings that a network has gone through."""
    return ["baseline", kind] if kind in ("retrained", "continued") else [kind]


def _count_epochs(run: pd.DataFrame, kind: str) -> tuple[int, int, str]:
    """(epochs that a network was trained for, those of its recipe as it is shipped, in words)"""
    found = run[run["kind"] == kind]
    recipe = load_recipe(run["recipe"].iloc[0] if _is_shipped(run) else run["paper"].iloc[0])
    settings = recipe.retrain if kind in ("retrained", "continued") else recipe.baseline
    planned = settings.epochs if settings else 0
    if found.empty:
        return 0, max(planned, 1), f"no {kind}"
    done, start = int(found["epochs"].min()), str(found["start"].iloc[0])
    if kind == "baseline" and start != TRAINED:
        return done, max(planned, 1), f"weights of {start}"
    return done, max(planned, 1), f"{done} of {planned}"


def _is_shipped(run: pd.DataFrame) -> bool:
    return run["recipe"].iloc[0] in recipe_names()


def _describe_replay(run: pd.DataFrame) -> str:
    first, arms = run.iloc[0], run.set_index("kind", drop=False)
    seed = f", seed {first['seed']}" if first["seed"] else ""
    told = [f"**{first['recipe']} on {first['dataset']}{seed}**{_tell_protocol(run)}."]
    control = "baseline" if "baseline" in arms.index else ""
    told += compare_arms(run, name="kind", control=control).splitlines()
    if "retrained" not in arms.index:
        return " ".join(told)
    for other in [kind for kind in CONTROLS if kind in arms.index]:
        said = compare_arms(arms.loc[["retrained", other]], name="kind", control=other)
        told.append(f"Retrained beside {other}: {said.splitlines()[1].partition('; ')[2]}")
    counts = {kind: (int(row["correct"]), int(row["total"])) for kind, row in arms.iterrows()}
    if control and "continued" not in counts and _is_above(counts["retrained"], counts[control]):
        told.append(
            "No whole network, trained on for as long, stands beside it: what retraining won may "
            "be more training, and not pruning."
        )
    return " ".join(told)


def _is_above(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return differ(one, other) and one[0] / one[1] > other[0] / other[1]


def _tell_protocol(run: pd.DataFrame) -> str:
    """How a replay differs from the paper's row, or that there is none."""
    first = run.iloc[0]
    of_paper = first["paper"] in recipe_names()
    unlike = [f"the images are {first['dataset']}"] if of_paper else []
    if of_paper and first["dataset"] == load_recipe(first["paper"]).data.source:
        unlike = []
    if of_paper or _is_shipped(run):
        for kind in run["kind"][run["kind"] != "pruned"]:
            done, planned, said = _count_epochs(run, kind)
            if done < planned:
                unlike.append(f"{kind}: {said}{' epochs' if done else ''}")
    row = f", beside {first['paper']} of Table 1" if of_paper else ", which is not in the paper"
    than = "; unlike there: " if of_paper else "; less than its recipe asks for: "
    return row + (than + "; ".join(unlike) if unlike else "")
