"""Plans that lie, as text and made in Python: a sentence, or the plan. Hypothesis draws them.

`PRUNELAB_FUZZ=10000` draws more.
"""

import copy
import json
from typing import Any

import pytest
import torch
from fuzzing import fuzz
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from prunelab import PruningPlan, make_plan, prune, trace


def make_network() -> nn.Module:
    torch.manual_seed(0)
    last = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), *last)


MODEL = make_network()
PLAN = make_plan(trace(MODEL, torch.zeros(1, 3, 8, 8)), {"0": 0.5})

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([0, 1, 8, 2**16, 2**31, 10**400, 1.0, float("nan"), float("inf")])
    | st.text(max_size=4)
    | st.sampled_from(["float32", "load", "go", "stay", "0", "2"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def altered(draw: st.DrawFn) -> dict[str, Any]:
    """The fields of a plan, with another value in one place."""
    fields = copy.deepcopy(json.loads(PLAN.to_json()))
    place, key = fields, draw(st.sampled_from([*sorted(fields), "more"]))
    while isinstance(place.get(key), dict) and place[key] and draw(st.booleans()):
        place, key = place[key], draw(st.sampled_from([*sorted(place[key]), "2", "more"]))
    inside = place.get(key)
    if isinstance(inside, list) and inside and draw(st.booleans()):
        inside[draw(st.integers(0, len(inside) - 1))] = draw(JSON)
    else:
        place[key] = draw(JSON)
    return fields


def check(make: Any) -> None:
    """What is made is refused by a sentence, or is a plan that prunes, or that another's is."""
    try:
        plan = make()
        assert PruningPlan.from_json(plan.to_json()).keep == plan.keep
        assert all(type(i) is int for kept in plan.keep.values() for i in kept)
        assert set(plan.removed) <= set(plan.widths)
        small = prune(MODEL, plan)
    except ValueError as error:
        told = error
    else:
        assert small[0].out_channels == len(plan.keep["0"])
        assert small(torch.zeros(1, 3, 8, 8)).shape == (1, 2)
        return
    assert type(told) is ValueError
    assert "\n" not in str(told)
    assert len(str(told)) < 1500


@fuzz(150)
@given(altered())
def test_random_texts(fields):
    check(lambda: PruningPlan.from_json(json.dumps(fields)))


@fuzz(150)
@given(altered())
def test_random_fields(fields):
    fields.pop("more", None)
    check(lambda: PruningPlan(**fields))


@fuzz(150)
@given(st.data())
def test_damaged_texts(data):
    text = PLAN.to_json()
    place = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(place, min(len(text), place + 10)))
    put = data.draw(st.text(max_size=3) | st.sampled_from(['"', "{", "]", "-1", ",", "[" * 10**5]))
    check(lambda: PruningPlan.from_json(text[:place] + put + text[end:]))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("keep", {"0": [False, True], "2": [0]}, r"'keep\.0\.0' must be a valid integer, got F"),
        ("keep", {"0": [0.0], "2": [0]}, "must be a valid integer, got 0.0"),
        ("keep", {"0": [], "2": [0]}, "at least 1 item"),
        ("keep", {"0": [10**30], "2": [0]}, "must be sorted, distinct, and in 0 … 7"),
        ("keep", {"0": [-1], "2": [0]}, "greater than or equal to 0"),
        ("keep", {"0": torch.arange(3), "2": [0]}, "must be a valid list"),
        ("keep", {"0": [0]}, "keep and widths name different layers"),
        ("keep", {"a" * 10**5: [0]}, "at most 500 characters"),
        ("keep", None, "must be a valid dictionary, got None"),
        ("widths", {"0": 10**15, "2": 4}, "less than or equal to 65536"),
        ("widths", {"0": True, "2": 4}, "must be a valid integer, got True"),
        ("widths", {"0": "8", "2": 4}, "must be a valid integer, got '8'"),
        ("input_shapes", [[1, 3, 10**6, 10**6]], "hold 3000000000000 numbers, more than 67108864"),
        ("input_shapes", [[1, 3, -1, 8]], "greater than or equal to 1"),
        ("input_shapes", [[1, 3, 8.0, 8]], "must be a valid integer, got 8.0"),
        ("input_shapes", [[10**4000] * 8], "less than or equal to 67108864"),
        ("input_shapes", [[1] * 100], "at most 8 items"),
        ("input_shapes", 5, "must be a valid list, got 5"),
        ("settings", None, "'settings' must be a valid dictionary, got None"),
        ("groups", ["0"], "'groups' must be a valid dictionary"),
        ("groups", {"0": "fly"}, "must be 'go' or 'stay', got 'fly'"),
        ("input_dtypes", ["load"], "must be 'float16'"),
        ("input_dtypes", ["float32"] * 3, "as many input_dtypes as input_shapes"),
        ("input_dtypes", "float32", "must be a valid list"),
    ],
)
def test_plans_that_lie(key, value, words):
    fields = {**json.loads(PLAN.to_json()), key: value}
    with pytest.raises(ValueError, match=words):
        PruningPlan(**fields)
    if not any(isinstance(each, torch.Tensor) for each in dict(fields["keep"] or {}).values()):
        with pytest.raises(ValueError, match=words):
            PruningPlan.from_json(json.dumps(fields))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 10**5, "recursion"),
        ('{"keep":' * 10**4, "recursion"),
        ("null", "not a pruning plan"),
        ("3", "not a pruning plan"),
        ("", "not JSON"),
        (None, "not JSON"),
        ('{"keep": {}, "keep": {}}', "a key is there twice"),
        ('{"keep": {"0": {"0": ' + "[" * 60 + "]" * 60 + "}}}", "nested more than 50 deep"),
        ("{}", "'keep' is missing"),
    ],
)
def test_texts_that_are_no_plans(text, words):
    with pytest.raises(ValueError, match=words):
        PruningPlan.from_json(text)


def test_one_number_is_no_list_of_filters():
    graph = trace(MODEL, torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="the filters of '0' must be a list of numbers"):
        make_plan(graph, {}, keep={"0": torch.tensor(3)})
