"""Checks of notebook 08: a picture as a network takes it, and what a file must say."""

import numpy as np
import onnxruntime
import pytest
import torch

from prunelab import (
    exercises,
    export_network,
    find_weights,
    load_data,
    load_model,
    make_plan,
    prune,
    save_pruned,
    trace,
)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """(session, data, the pruned file)"""
    folder = tmp_path_factory.mktemp("use")
    data = load_data("digits")
    whole = load_model("resnet20", weights=find_weights("resnet20-digits"))
    plan = make_plan(trace(whole, torch.zeros(data.image_shape)), {"*": 0.3})
    small = prune(whole, plan)
    file = save_pruned(folder / "small.safetensors", small, plan, info=data.describe())
    export_network(small, folder / "small.onnx", example_input=torch.zeros(data.image_shape))
    return onnxruntime.InferenceSession(folder / "small.onnx"), data, file


def moved(pictures):
    return pictures.transpose(0, 3, 1, 2) / 255


def colours(data):
    return (np.array(values)[:, None, None] for values in data.normalization)


def test_input_right(given):
    session, data, _ = given
    mean, std = colours(data)

    def prepare(pictures):
        return ((moved(pictures) - mean) / std).astype("float32")

    found = exercises.check_input(prepare, session, data)
    assert found
    assert "16 of 16" in found.text
    assert exercises.check_input(lambda p: torch.from_numpy(prepare(p)), session, data)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda p, m, s: (p.transpose(0, 3, 1, 2) - m) / s, "not divided by 255"),
        (lambda p, m, s: p.transpose(0, 3, 1, 2).astype("float32"), "pixels as they are"),
        (lambda p, m, s: moved(p), "not normalised yet"),
        (lambda p, m, s: moved(p) - m, "the deviation is missing"),
        (lambda p, m, s: moved(p) / s, "the mean is missing"),
        (lambda p, m, s: (moved(p) - m) * s, "multiplied by the deviation"),
        (lambda p, m, s: moved(p) / s - m, "after the division"),
        (lambda p, m, s: 2 * moved(p) - 1, "in −1 … 1"),
        (lambda p, m, s: (255 * moved(p) - m) / 255 / s, "of 0 … 1"),
        (lambda p, m, s: (moved(p)[:, ::-1] - m) / s, "blue comes first"),
        (lambda p, m, s: moved(p)[:, ::-1], "blue comes first. The values are in 0 … 1"),
        (lambda p, m, s: (moved(p).transpose(0, 1, 3, 2) - m) / s, "Rows and columns"),
        (lambda p, m, s: (p.reshape(len(p), 3, *p.shape[1:3]) / 255 - m) / s, "reshape"),
        (lambda p, m, s: (moved(p) - m) / s, "float64"),
        (lambda p, m, s: (moved(p) - m) / s + 1, "Your numbers are"),
        (lambda p, m, s: p, "still (images, rows, columns, colours)"),
        (lambda p, m, s: moved(p)[0], "it should be (2, 3, 32, 32)"),
        (lambda p, m, s: moved(p).astype(str), "numbers are asked for"),
        (lambda p, m, s: None, "returns nothing"),
        (lambda p, m, s: p.nothing, "raised AttributeError"),
    ],
)
def test_input_wrong(given, wrong, said):
    session, data, _ = given
    found = exercises.check_input(lambda p: wrong(p, *colours(data)), session, data)
    assert found.right is False
    assert said in found.text


def test_a_function_that_changes_what_it_is_given(given):
    session, data, _ = given

    def prepare(pictures):
        pictures[:] = 0
        return moved(pictures)

    assert "not normalised" not in exercises.check_input(prepare, session, data).text


NEEDED = ["architecture.name", "plan.keep", "plan.widths", "plan.input_shapes"]


@pytest.mark.parametrize(
    ("answer", "right", "said"),
    [
        ([*NEEDED, "architecture.num_classes"], True, "architecture.num_classes could go"),
        (NEEDED, True, "gives the same network"),
        (", ".join(NEEDED), True, "gives the same network"),
        (NEEDED[:-1], False, "'input_shapes' is missing"),
        (["plan.keep"], False, "does not open"),
        (["architecture"], False, "holds no pruned model"),
        ([*NEEDED, "info.classes"], False, "built without info.classes"),
        ([*NEEDED, "plan.settings"], False, "plan.settings"),
        (["architecture", "plan", "info"], False, "built without info."),
        (["plan.weights"], False, "no field plan.weights"),
        (3, False, "a list of names"),
        (..., None, "asked for"),
    ],
)
def test_header_fields(given, answer, right, said):
    found = exercises.check_header_fields(answer, given[2])
    assert found.right is right
    assert said in found.text
    assert "/tmp" not in found.text


def test_header_fields_of_another_number_of_classes(tmp_path):
    model = load_model("resnet20", num_classes=7)
    plan = make_plan(trace(model, torch.zeros(1, 3, 32, 32)), {"*": 0.5})
    file = save_pruned(tmp_path / "seven.safetensors", prune(model, plan), plan)
    assert not exercises.check_header_fields(NEEDED, file)
    assert exercises.check_header_fields([*NEEDED, "architecture.num_classes"], file)
