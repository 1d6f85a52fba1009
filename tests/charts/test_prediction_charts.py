"""Charts of what breaks: drawn, in order, and of the images that they say."""

import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from prunelab import charts, count_classes, count_confusions, find_flips, load_data
from prunelab.charts.predictions import VERDICT_COLOURS


def make_answers(classes, images=400):
    """Answers of three networks that are right in 90, 40 and 80 of 100."""
    draw, names = np.random.default_rng(0), [f"class {i}" for i in range(classes)]
    labels, frames = draw.integers(0, classes, images), []
    for name, share in {"whole": 0.9, "pruned": 0.4, "retrained": 0.8}.items():
        right = draw.random(images) < share
        answers = np.where(right, labels, draw.integers(0, classes, images))
        columns = {"image": range(images), "label": labels, "network": name, "predicted": answers}
        frames.append(pd.DataFrame({**columns, "confidence": draw.random(images)}))
    frame = pd.concat(frames, ignore_index=True)
    for column in ("label", "predicted"):
        frame[column] = pd.Categorical.from_codes(frame[column], names)
    networks = ["whole", "pruned", "retrained"]
    return frame.assign(network=pd.Categorical(frame["network"], networks))


ANSWERS = make_answers(10)


def pick(counted, *networks):
    return counted[counted["network"].isin(networks)]


def draw(chart):
    json.dumps(chart.to_dict(), allow_nan=False)
    return Image.open(io.BytesIO(charts.render_png(chart)))


def rows_of(chart):
    return pd.DataFrame(next(iter(chart.to_dict()["datasets"].values())))


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_they_are_drawn_of_few_and_many_classes(classes):
    answers = make_answers(classes)
    counted, confusions = count_classes(answers), count_confusions(answers)
    for chart in (
        charts.class_accuracy(counted),
        charts.class_accuracy(pick(counted, "whole")),
        charts.confusion(pick(confusions, "whole")),
        charts.confusion(pick(confusions, "pruned", "retrained")),
    ):
        image = draw(chart)
        assert image.width < 900
        assert image.height < 900


def test_classes_that_lost_most_come_first():
    counted = count_classes(ANSWERS)
    wide = counted.astype({"network": str}).pivot_table(
        "accuracy", "class", "network", observed=True
    )
    lost = (wide["whole"] - wide["pruned"]).sort_values(ascending=False, kind="stable")
    for limit in (25, 4):
        chart = charts.class_accuracy(counted, limit=limit)
        order = chart.to_dict()["layer"][0]["encoding"]["y"]["sort"]
        assert order == lost.index.tolist()[:limit]
        assert set(rows_of(chart)["class"]) == set(order)
    assert "the 4 of 10 classes that lost most" in str(chart.to_dict()["title"])


def test_two_networks_show_what_changes():
    confusions = count_confusions(ANSWERS)
    rows = rows_of(charts.confusion(pick(confusions, "whole", "pruned")))
    counts = pd.crosstab(
        [ANSWERS["label"].astype(str), ANSWERS["predicted"].astype(str)],
        ANSWERS["network"].astype(str),
    )
    changes = counts["pruned"] - counts["whole"]
    drawn = rows.set_index(["class", "predicted"])["images"]
    assert drawn.to_dict() == changes[changes != 0].to_dict()
    diagonal = rows["class"] == rows["predicted"]
    assert (rows["good"] == (diagonal == (rows["images"] > 0))).all()
    assert not rows.loc[diagonal & (rows["images"] < 0), "good"].any()  # fewer right is worse
    assert rows["depth"].between(1 / 8, 1).all()


def test_networks_that_answer_alike_leave_an_empty_map():
    confusions = count_confusions(ANSWERS)
    one = pick(confusions, "whole")
    same = pd.concat([one.astype({"network": str}), one.assign(network="same")])
    draw(charts.confusion(same))
    with pytest.raises(ValueError, match="one network or two, not 3"):
        charts.confusion(confusions)


def test_the_order_of_classes_is_told():
    two = str(charts.class_accuracy(count_classes(ANSWERS)).to_dict()["title"])
    assert "whole → pruned: largest loss first" in two
    one = count_classes(ANSWERS[ANSWERS["network"] == "whole"])
    assert "largest error first" in str(charts.class_accuracy(one).to_dict()["title"])


def make_split(data, size):
    images = torch.zeros(400, 3, size, size, dtype=torch.uint8)
    images[:, 0] = torch.arange(400).remainder(200)[:, None, None]  # red says which it is
    return replace(data.val, images=images, labels=torch.zeros(400, dtype=torch.long))


@pytest.mark.parametrize("size", [8, 32, 64])
def test_cards_show_the_images_of_the_flips(digits, size):
    flips = find_flips(ANSWERS, "whole", "pruned")
    flips = pd.concat([flips[flips["verdict"] == verdict].head(2) for verdict in VERDICT_COLOURS])
    sheet = Image.open(io.BytesIO(charts.flip_images(make_split(digits, size), flips)))
    colours = {colour for _, colour in sheet.getcolors(10**6)}
    for image in flips["image"]:
        assert (image % 200, 0, 0, 255) in colours
    for frame in VERDICT_COLOURS.values():
        assert (*(int(frame[i : i + 2], 16) for i in (1, 3, 5)), 255) in colours
    assert (0, 0, 0, 0) in colours  # the page shows between them


def test_sheets_grow_by_rows(digits):
    flips, split = find_flips(ANSWERS, "whole", "pruned"), make_split(digits, 32)
    sizes = {
        n: Image.open(io.BytesIO(charts.flip_images(split, flips, limit=n))).size
        for n in (1, 5, 6, 25)
    }
    assert sizes[5] == (5 * sizes[1][0], sizes[1][1])
    assert sizes[6] == (sizes[5][0], 2 * sizes[5][1])
    assert sizes[25][1] == 5 * sizes[1][1]
    with pytest.raises(ValueError, match="no row"):
        charts.flip_images(split, flips.head(0))


def test_cards_of_files_and_of_long_names(folder):
    data = load_data(folder, device="cpu", image_size=128)
    long = "a class whose name is longer than any card is wide"
    row = {"image": 1, "label": long, "before": long, "after": "été → ж", "verdict": "both wrong"}
    flips = pd.DataFrame([{**row, "confidence_before": 0.5, "confidence_after": 0.5}])
    sheet = Image.open(io.BytesIO(charts.flip_images(data.test, flips)))
    assert sheet.width < 130
