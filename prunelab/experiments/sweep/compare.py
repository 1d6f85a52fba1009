"""What came of a sweep: its settings over their seeds, the best first."""

from typing import Any

import pandas as pd

from prunelab.utils.intervals import wilson

COLUMNS = ["point", "seed", "state", "epochs", "kind", "error %", "removed %", "why"]


def find_settings(points: pd.DataFrame) -> list[str]:
    """The columns of `read_sweep` that vary in it; recipe first, where there are several."""
    between = list(points.columns)
    varied = between[between.index("for_others") + 1 : between.index("state")]
    return ["recipe"] * (len(set(points["recipe"])) > 1) + varied


def compare_points(points: pd.DataFrame) -> pd.DataFrame:
    """What is done of a sweep, over its seeds.

    Args:
        points: of `read_sweep`, all or a part.

    Returns:
        A row for each point, the lowest error first; columns point, those of the settings, kind
        (of the network), n (seeds), error (1 − test accuracy, their mean), error_low and error_high
        (the lowest and the highest seed; of a single one, the interval that holds its accuracy 95
        times in 100), flops (multiply-adds for one image), flops_removed, params, on_front (no
        other has both a lower error and fewer multiply-adds).

    Example:
        >>> compare_points(read_sweep("data/runs/digits-small"))
    """
    done = points[points["state"] == "done"]
    settings = find_settings(points)
    columns = ["point", *settings, "kind", "n", "error", "error_low", "error_high"]
    columns += ["flops", "flops_removed", "params", "on_front"]
    lines = []
    for name, own in done.groupby("point", sort=False):
        first, errors = own.iloc[0], 1 - own["test_accuracy"]
        line: dict[str, Any] = {"point": name, **first[[*settings, "kind"]], "n": len(own)}
        low, high = errors.min(), errors.max()
        if len(own) == 1:
            total = int(first["n_test"])
            low, high = wilson(round(errors.iloc[0] * total), total)
        line |= {"error": errors.mean(), "error_low": low, "error_high": high}
        line |= {"flops": first["flops"], "flops_removed": first["flops_removed"]}
        lines.append({**line, "params": first["params"]})
    if not lines:
        return pd.DataFrame(columns=columns)
    found = pd.DataFrame(lines).sort_values(["error", "flops"], ignore_index=True)
    least = found["flops"].astype(float).cummin().shift(fill_value=float("inf"))
    return found.assign(on_front=found["flops"] < least)[columns]


def name_best(compared: pd.DataFrame) -> pd.DataFrame:
    """`compare_points` for reading: the best first, in per cent."""
    frame = compared[["point", "kind", "n"]].rename(columns={"n": "seeds"})
    for name in ("error", "error_low", "error_high"):
        said = {"error": "error %", "error_low": "lowest", "error_high": "highest"}[name]
        frame[said] = (100 * compared[name]).round(2)
    frame["removed %"] = (100 * compared["flops_removed"]).round(1)
    frame["multiply-adds (M)"] = (compared["flops"] / 1e6).round(1)
    frame["on the front"] = compared["on_front"].map({True: "yes", False: ""})
    return frame


def name_points(points: pd.DataFrame) -> pd.DataFrame:
    """`read_sweep` for reading."""
    frame = points.assign(why=points["error"].astype(object).fillna("").str.partition("\n")[0])
    frame["epochs"] = points["epoch"].astype(str) + "/" + points["epochs"].astype(str)
    if "test_accuracy" in points:
        frame["error %"] = (100 * (1 - points["test_accuracy"])).round(2)
        frame["removed %"] = (100 * points["flops_removed"]).round(1)
    return frame[[name for name in COLUMNS if name in frame]]
