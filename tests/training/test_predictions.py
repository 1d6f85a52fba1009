"""What networks answer, image by image, and the counts of it."""

import pandas as pd
import pytest
import torch
from torch import nn

from prunelab import (
    count_classes,
    count_confusions,
    evaluate,
    find_flips,
    load_data,
    load_model,
    make_plan,
    predict,
    prune,
    trace,
)


@pytest.fixture(scope="module")
def models(digits):
    torch.manual_seed(0)
    whole = load_model("resnet20")
    graph = trace(whole, torch.zeros(digits.image_shape))
    return {"whole": whole, "pruned": prune(whole, make_plan(graph, {"*": 0.3}), graph=graph)}


@pytest.fixture(scope="module")
def predicted(models, digits):
    return predict(models, digits.val, classes=digits.classes)


def by_hand(rows):
    """A frame of `predict`, from (image, label, {network: (answer, confidence)})."""
    flat = [
        {"image": i, "label": label, "network": name, "predicted": answer, "confidence": sure}
        for i, label, answers in rows
        for name, (answer, sure) in answers.items()
    ]
    frame = pd.DataFrame(flat)
    for column in ("label", "predicted"):
        frame[column] = pd.Categorical(frame[column], ["ape", "bee", "cat"])
    return frame.assign(network=pd.Categorical(frame["network"], ["whole", "pruned"]))


FRAME = by_hand(
    [
        (3, "ape", {"whole": ("ape", 0.9), "pruned": ("bee", 0.6)}),
        (5, "ape", {"whole": ("ape", 0.9), "pruned": ("cat", 0.8)}),
        (7, "bee", {"whole": ("cat", 0.5), "pruned": ("bee", 0.7)}),
        (8, "cat", {"whole": ("ape", 0.5), "pruned": ("bee", 0.9)}),
        (9, "cat", {"whole": ("cat", 0.5), "pruned": ("cat", 0.9)}),
        (11, "cat", {"whole": ("ape", 0.5), "pruned": ("ape", 0.9)}),
    ]
)


def test_the_answers_are_those_of_a_plain_loop(models, predicted, digits):
    for name, model in models.items():
        own = predicted[predicted["network"] == name].reset_index(drop=True)
        images, labels = next(digits.val.batches(len(digits.val)))
        with torch.inference_mode():
            sure, answer = model.eval()(images).softmax(1).max(1)
        assert own["image"].tolist() == list(range(len(digits.val)))
        assert own["label"].cat.codes.tolist() == labels.tolist()
        assert own["predicted"].cat.codes.tolist() == answer.tolist()
        assert own["confidence"].tolist() == pytest.approx(sure.tolist(), abs=1e-5)
    assert predicted["label"].cat.categories.tolist() == list(digits.classes)


def test_the_counts_are_those_of_evaluate(models, predicted, digits):
    counted, confusions = count_classes(predicted), count_confusions(predicted)
    for name, model in models.items():
        own = counted[counted["network"] == name]
        assert own["correct"].sum() == evaluate(model, digits.val).correct
        assert own["total"].sum() == len(digits.val)
        assert own["class"].tolist() == list(digits.classes)
        mine = confusions[confusions["network"] == name]
        assert mine["count"].sum() == len(digits.val)
        assert mine.loc[mine["class"] == mine["predicted"], "count"].sum() == own["correct"].sum()


def test_modes_come_back_even_when_it_is_stopped(models, digits):
    whole, small = models.values()
    whole.train()
    small.eval()
    whole.layer1.eval()  # frozen, say

    def stop(done, total):
        raise KeyboardInterrupt

    for on_batch in (None, stop):
        try:
            predict(models, digits.val, images=20, on_batch=on_batch)
        except KeyboardInterrupt:
            assert on_batch
        assert (whole.training, whole.layer1.training, small.training) == (True, False, False)


def test_some_images_are_the_same_each_time(models, predicted, digits):
    seen = []
    some = predict(
        models,
        digits.val,
        classes=digits.classes,
        images=20,
        on_batch=lambda *at: seen.append(at),
    )
    places = some.loc[some["network"] == "pruned", "image"].tolist()
    assert len(set(places)) == 20
    assert places == sorted(places)
    assert seen[-1] == (40, 40)
    columns = ["image", "network", "label", "predicted"]
    both = some[columns].merge(predicted[columns], on=columns)
    assert len(both) == 40  # each is said of the image that it was said of
    again = predict(models, digits.val, classes=digits.classes, images=20)
    pd.testing.assert_frame_equal(some, again)
    other = predict(models, digits.val, images=20, seed=1)
    assert other["image"].tolist() != some["image"].tolist()


def test_images_are_read_from_files_too(folder):
    data = load_data(folder, device="cpu", image_size=72)
    model = load_model("resnet20", num_classes=2)
    found = predict({"one": model}, data.test, classes=data.classes, images=3)
    assert found["label"].tolist() == [
        data.classes[data.test.labels[image]] for image in found["image"]
    ]


def test_a_network_may_know_more_classes(digits):
    class Says12(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x):
            return self.scale * torch.eye(15)[12].expand(len(x), 15)

    found = predict({"odd": Says12()}, digits.val, classes=digits.classes)
    assert set(found["predicted"]) == {"12"}
    assert count_classes(found)["correct"].sum() == 0
    assert count_confusions(found)["count"].sum() == len(digits.val)


def test_classes_are_counted():
    counted = count_classes(FRAME)
    assert counted["network"].tolist() == ["whole"] * 3 + ["pruned"] * 3  # in their order
    assert counted["class"].tolist() == ["ape", "bee", "cat"] * 2
    assert counted["correct"].tolist() == [2, 0, 1, 0, 1, 1]
    assert counted["total"].tolist() == [2, 1, 3] * 2
    assert (counted["accuracy_low"] <= counted["accuracy"]).all()
    assert (counted["accuracy"] <= counted["accuracy_high"]).all()


def test_confusions_are_counted():
    counted = count_confusions(FRAME)
    rows = [tuple(row) for row in counted.itertuples(index=False)]
    assert rows == [
        ("whole", "ape", "ape", 2),
        ("whole", "bee", "cat", 1),
        ("whole", "cat", "ape", 2),
        ("whole", "cat", "cat", 1),
        ("pruned", "ape", "bee", 1),
        ("pruned", "ape", "cat", 1),
        ("pruned", "bee", "bee", 1),
        ("pruned", "cat", "ape", 1),
        ("pruned", "cat", "bee", 1),
        ("pruned", "cat", "cat", 1),
    ]


def test_flips_broke_first_and_surest_first():
    flips = find_flips(FRAME, "whole", "pruned")
    assert flips["image"].tolist() == [5, 3, 7, 8]
    assert flips["verdict"].tolist() == ["broke", "broke", "mended", "both wrong"]
    assert flips["before"].tolist() == ["ape", "ape", "cat", "ape"]
    assert flips["after"].tolist() == ["cat", "bee", "bee", "bee"]
    assert flips["confidence_after"].tolist() == [0.8, 0.6, 0.7, 0.9]
    back = find_flips(FRAME, "pruned", "whole")
    assert back["verdict"].tolist() == ["broke", "mended", "mended", "both wrong"]
    assert find_flips(FRAME, "whole", "whole").empty
    with pytest.raises(ValueError, match=r"unknown network 'small'.*whole, pruned"):
        find_flips(FRAME, "whole", "small")


def test_what_is_wrong_is_said(models, digits):
    whole = models["whole"]
    with pytest.raises(ValueError, match=r"takes \{name: model\}.*not \w*ResNet"):
        predict(whole, digits.val)
    with pytest.raises(ValueError, match="not an empty one"):
        predict({}, digits.val)
    with pytest.raises(ValueError, match=r"takes a split, such as data\.val, not DataSplits"):
        predict(models, digits)
    with pytest.raises(ValueError, match="images must be a whole number from 1 to 143"):
        predict(models, digits.val, images=1000)
    with pytest.raises(ValueError, match=r"classes names 2, and the split has 10"):
        predict(models, digits.val, classes=["cat", "dog"])
    with pytest.raises(ValueError, match="must return logits"):
        predict({"two": load_model("resnet20", num_classes=2)}, digits.val)
