"""Names that hold HTML, quotes or expressions are text in charts, and cost them no marks."""

import io
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import vl_convert
from PIL import Image
from torch import nn

from prunelab import charts, trace
from prunelab.charts import style
from prunelab.training import count_classes, count_confusions, find_flips

MARK = '<img src=x onerror="window.__marked=1">'
SCRIPT = "</script><script>window.__marked=1</script>"
ODD = [MARK, SCRIPT, "quote \" ' \\", "a[0].b", "' + datum.x + '", "two\nlines", 'back\\" \\n']
PLAIN = [f"name {i}" for i in range(len(ODD))]
LIVE, STORED = "6.4", "5.8"  # Vega-Lite of the lab, and of JupyterLab

ACCURACY = {"accuracy": 0.8, "accuracy_low": 0.7, "accuracy_high": 0.9}
COUNTED = {**ACCURACY, "correct": 8, "total": 10}


def make_answers(names: list[str]) -> pd.DataFrame:
    """Two networks, the last names, asked about images of all classes."""
    count = 4 * len(names)
    rows = []
    for network, shift in ((names[-1], 0), (names[2], 1)):
        labels = np.arange(count) % len(names)
        answers = np.where(np.arange(count) % 4 == 0, (labels + shift) % len(names), labels)
        rows.append(
            pd.DataFrame(
                {
                    "network": network,
                    "image": np.arange(count),
                    "label": pd.Categorical.from_codes(labels, names),
                    "predicted": pd.Categorical.from_codes(answers, names),
                    "correct": answers == labels,
                    "confidence": 0.9,
                }
            )
        )
    found = pd.concat(rows, ignore_index=True)
    return found.assign(network=pd.Categorical(found["network"], [names[-1], names[2]]))


def draw_classes(names: list[str]) -> Any:
    return charts.class_accuracy(count_classes(make_answers(names)))


def draw_confusion(names: list[str]) -> Any:
    return charts.confusion(count_confusions(make_answers(names)))


def rank(names: list[str]) -> pd.DataFrame:
    filters = [{"filter": i, "rank": i / 3, "share": 1 - i / 4, "score": 4.0 - i} for i in range(4)]
    told = {"stage": "stage1", "fate": "kept"}
    rows = [{"layer": n, "paper_name": n, **told, **row} for n in names for row in filters]
    return pd.DataFrame(rows)


def measure(names: list[str]) -> pd.DataFrame:
    curve = [{"ratio": r, "removed": int(8 * r), "filters": 8, **COUNTED} for r in (0.0, 0.5)]
    rows = [{"layer": n, "paper_name": n, "stage": n[:9], **row} for n in names for row in curve]
    found = pd.DataFrame(rows)
    found.attrs["refused"] = dict.fromkeys(names, "why")
    return found


def list_plans(names: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        [{"name": n, "flops_left": 0.5, "retrained": False, **COUNTED} for n in names]
    )


def draw_cost(names: list[str]) -> Any:
    cost = {"flops": 10, "flops_after": 5, "params": 4, "params_after": 2}
    return charts.layer_cost(pd.DataFrame([{"layer": n, "paper_name": n, **cost} for n in names]))


def draw_norms(names: list[str]) -> Any:
    return charts.layer_norms(charts.describe_norms(rank(names), names[2]), 4)


def draw_handles(names: list[str]) -> Any:
    measured = measure(names)
    at = charts.place_handles(measured, dict.fromkeys(names, 0.5))
    return charts.sensitivity_handles(measured, at)


def draw_ways(names: list[str]) -> Any:
    measured = {name: measure(names) for name in names[:3]}
    return charts.compare_sensitivity(measured, legend=names[2], title=names[0])


def draw_tiles(names: list[str]) -> Any:
    own = rank(names[2:3])
    weight = torch.arange(36.0).reshape(4, 1, 3, 3)
    return charts.filter_tiles(own, dict(enumerate(charts.kernel_pictures(weight))))


def draw_scores(names: list[str]) -> Any:
    return charts.compare_scores(rank(names), rank(names), names[1], names=(names[2], names[-1]))


def draw_overlap(names: list[str]) -> Any:
    pairs = [(one, two) for i, one in enumerate(names) for two in names[:i]]
    compared = pd.DataFrame(pairs, columns=["one", "other"])
    return charts.overlap(compared.assign(layer="conv1", overlap=0.5))


def draw_shares(names: list[str]) -> Any:
    rows = [(one, two, two, 0.5) for one in names for two in names]
    return charts.plan_shares(
        pd.DataFrame(rows, columns=["name", "layer", "paper_name", "removed"])
    )


def draw_front(names: list[str]) -> Any:
    told = {"flops_left": 0.7, "params_left": 0.7, "predicted": 0.8, "on_front": True}
    found = pd.DataFrame([{"point": i, "found": "by", **told, **COUNTED} for i in range(2)])
    return charts.front(found, list_plans(names))


def draw_choices(names: list[str]) -> Any:
    left = {"flops_left": 0.5, "params_left": 0.5}
    return charts.choices(pd.DataFrame([{"choice": n, **left, **ACCURACY} for n in names]))


def draw_tradeoff(names: list[str]) -> Any:
    row = {"kind": "pruned", "seed": 0, "test_accuracy": 0.5, "flops": 10, "dataset": names[0]}
    return charts.tradeoff(pd.DataFrame([{"recipe": n, "model": n, **row} for n in names]))


def draw_changes(names: list[str]) -> Any:
    row = {"kind": "retrained", "whose": "ours", "n": 1, "change": 0.0, "low": -1.0, "high": 1.0}
    return charts.changes(pd.DataFrame([{"network": n, **row} for n in names]))


def draw_times(names: list[str]) -> Any:
    times = {"median_ms": 1.0, "low_ms": 1.0, "high_ms": 2.0, "time_left": 0.5, "flops_left": 0.5}
    how = {"batch": 1, "format": "contiguous", "unaligned": 0, "device": names[0], "threads": 1}
    rows = [{"recipe": n, "model": m, **times, **how} for n in names for m in names[:3]]
    return charts.latency(pd.DataFrame(rows))


def draw_sweep(names: list[str]) -> Any:
    told = {"kind": "pruned", "n": 1, "error": 0.1, "error_low": 0.1, "error_high": 0.1}
    told |= {"flops": 9, "flops_removed": 0.1, "on_front": True}
    return charts.sweep(pd.DataFrame([{"point": f"r,{n}", **told} for n in names]))


def draw_coupling(names: list[str]) -> Any:
    row = {"paper_name": "conv_1", "loses": "filters", "why": names[0]}
    rows = [{"module": n, "role": "leader", **row} for n in names]
    return charts.coupling(pd.DataFrame(rows))


def draw_map(names: list[str]) -> Any:
    """Names of layers have no dots, and cannot be traced with these signs."""
    traced = [
        name for name, odd in zip(names, ODD, strict=True) if not set(odd) & {'"', "\\", "\n"}
    ]
    model = nn.Sequential()
    for name in traced:
        model.add_module(name.replace(".", ""), nn.Conv2d(4, 4, 1))
    return charts.network(trace(model, torch.zeros(1, 4, 8, 8)))


DRAWN: dict[str, Callable[[list[str]], Any]] = {
    "classes": draw_classes,
    "confusion": draw_confusion,
    "cost": draw_cost,
    "filter norms": lambda names: charts.filter_norms(rank(names)),
    "norm lines": lambda names: charts.norm_lines(rank(names), names[2]),
    "norms": draw_norms,
    "sensitivity": lambda names: charts.sensitivity(measure(names)),
    "handles": draw_handles,
    "sensitivity map": lambda names: charts.sensitivity_map(measure(names)),
    "ways": draw_ways,
    "tiles": draw_tiles,
    "scores": draw_scores,
    "overlap": draw_overlap,
    "plans": lambda names: charts.kept_plans(list_plans(names)),
    "shares": draw_shares,
    "front": draw_front,
    "choices": draw_choices,
    "tradeoff": draw_tradeoff,
    "changes": draw_changes,
    "times": draw_times,
    "sweep": draw_sweep,
    "coupling": draw_coupling,
    "map": draw_map,
}


def walk(item: Any) -> Iterator[dict[str, Any]]:
    """All parts of a drawn chart."""
    if isinstance(item, dict):
        yield item
        for part in item.values():
            yield from walk(part)
    elif isinstance(item, list):
        for part in item:
            yield from walk(part)


def look(spec: dict[str, Any], version: str) -> tuple[list[int], set[str]]:
    """How many marks of each kind a chart has, and its words but for numbers."""
    parts = [*walk(vl_convert.vegalite_to_scenegraph(spec, vl_version=version))]
    marks = sorted(len(part["items"]) for part in parts if part.get("role") == "mark")
    texts = [part["text"] for part in parts if "text" in part]
    lines = [text if isinstance(text, list) else [text] for text in texts]
    words = {str(word) for line in lines for word in line}
    return marks, {word for word in words if re.search("[a-z]", word)}


def rename(words: set[str]) -> set[str]:
    for plain, odd in zip(PLAIN, ODD, strict=True):
        words = {word.replace(plain, odd) for word in words}
    return words


@pytest.mark.parametrize("name", DRAWN)
def test_a_chart_is_drawn_as_with_plain_names(name, monkeypatch):
    monkeypatch.setattr(style, "render_png", lambda spec: None)
    plain, odd = (DRAWN[name](names).to_dict() for names in (PLAIN, ODD))
    marks, words = look(plain, LIVE)
    assert sum(marks)
    assert look(odd, LIVE) == (marks, rename(words))
    stored = style.render_bundle(odd)[0]["application/vnd.vegalite.v5+json"]  # its data are CSV
    assert look(stored, STORED) == (marks, rename(words))


def test_a_page_of_a_chart_runs_no_name():
    chart = draw_ways(ODD)
    for page in (chart.to_html(), chart._repr_mimebundle_(None, None)):
        text = str(page)
        assert "window.__marked" in text
        assert SCRIPT not in text


def test_cards_take_names_of_several_lines(few_digits):
    answers = make_answers(ODD)
    flips = find_flips(answers, ODD[-1], ODD[2])
    assert "two\nlines" in set(flips["before"])
    sheet = Image.open(io.BytesIO(charts.flip_images(few_digits.val, flips)))
    assert sheet.width > 300


def test_the_map_knows_layers_by_more_than_their_names():
    """Joins are called by a kind and a number, with a space between; layers may be, too."""
    names = [["conv 1", "output conv 2", "a|b"], ["one", "two", "three"]]
    drawn = []
    for own in names:
        model = nn.Sequential()
        for name in own:
            model.add_module(name, nn.Conv2d(4, 4, 1))
        spec = charts.network(trace(model, torch.zeros(1, 4, 8, 8)), layer=own[0]).to_dict()
        drawn.append(look(spec, LIVE))
        places = next(rows for rows in spec["datasets"].values() if rows and "members" in rows[0])
        drawn[-1] += ([(row["x"], row["x2"], row["top"]) for row in places],)
    assert drawn[0] == drawn[1]
