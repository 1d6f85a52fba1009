import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from small import QUICK, make_folder, tiny_network

from prunelab import (
    TrainSettings,
    compare_networks,
    evaluate,
    hash_tensors,
    load_data,
    load_model,
    make_optimizer,
    make_plan,
    prune,
    trace,
    train,
)
from prunelab.utils.tensors import read_tensors, write_tensors


def fresh():
    torch.manual_seed(0)
    return tiny_network()


def test_networks_are_compared_by_name(few_digits):
    model = fresh()
    found = compare_networks({"one": model, "again": model}, few_digits.val)
    assert found["network"].tolist() == ["one", "again"]
    assert set(found["correct"]) == {evaluate(model, few_digits.val).correct}
    with pytest.raises(ValueError, match=r"takes models by name, such as {'whole'.*not list"):
        compare_networks([model], few_digits.val)


def test_learning_rates_are_the_papers():
    rates = [TrainSettings().lr_at(epoch) for epoch in (0, 79, 80, 119, 120, 159)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_evaluate_counts(digits):
    model = fresh().train()
    found = evaluate(model, digits.val, batch_size=50)
    assert model.training
    model.eval()
    with torch.inference_mode():
        images, labels = next(digits.val.batches(len(digits.val)))
        logits = model(images)
    assert found.correct == (logits.argmax(1) == labels).sum()
    assert found.total == len(digits.val)
    loss = torch.nn.functional.cross_entropy(logits, labels).item()
    assert found.loss == pytest.approx(loss, rel=1e-4)
    assert found.accuracy == found.correct / found.total


def test_training_learns_and_repeats(few_digits):
    first, second = fresh(), fresh()
    history = train(first, few_digits, replace(QUICK, epochs=8))
    again = train(second, few_digits, replace(QUICK, epochs=8))
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    assert history["test_accuracy"].iloc[-1] > 0.3
    assert hash_tensors(first.state_dict()) == hash_tensors(second.state_dict())
    assert history.drop(columns="seconds").equals(again.drop(columns="seconds"))


class Stop(Exception):
    pass


def stop_at_once(done, total):
    raise Stop


def never(row):
    pytest.fail("worked twice")


def test_resuming_gives_the_same_weights_bit_for_bit(few_digits, tmp_path):
    whole = fresh()
    history = train(whole, few_digits, QUICK)

    def stop(row):
        if row["epoch"] == 2:
            raise Stop

    with pytest.raises(Stop):
        train(fresh(), few_digits, QUICK, checkpoint=tmp_path / "c", on_epoch=stop)
    torch.manual_seed(99)  # neither fresh weights nor the global generator matter any more
    resumed = tiny_network()
    rest = train(resumed, few_digits, QUICK, checkpoint=tmp_path / "c")
    assert hash_tensors(resumed.state_dict()) == hash_tensors(whole.state_dict())
    assert rest.drop(columns="seconds").equals(history.drop(columns="seconds"))
    loaded = tiny_network()
    train(loaded, few_digits, QUICK, checkpoint=tmp_path / "c", on_epoch=never)
    assert hash_tensors(loaded.state_dict()) == hash_tensors(whole.state_dict())


def test_an_epoch_goes_on_in_its_middle(few_digits, tmp_path):
    def network():
        model = fresh()
        return torch.nn.Sequential(model, torch.nn.Dropout(0.3))  # whose draws go on too

    def stop(done, total):
        if done == 256 + 3 * 64:
            raise Stop

    whole = network()
    history = train(whole, few_digits, QUICK)
    with pytest.raises(Stop):
        train(network(), few_digits, QUICK, checkpoint=tmp_path / "c", save_every=2, on_batch=stop)
    seen = []

    def note(done, total):
        seen.append(done)

    resumed = network()
    rest = train(resumed, few_digits, QUICK, checkpoint=tmp_path / "c", on_batch=note)
    assert seen[0] == 256 + 3 * 64  # the two batches that were saved are not done again
    assert hash_tensors(resumed.state_dict()) == hash_tensors(whole.state_dict())
    assert rest.drop(columns="seconds").equals(history.drop(columns="seconds"))


def test_an_epoch_of_image_files_goes_on_in_its_middle(tmp_path):
    large = make_folder(tmp_path / "large", (90, 70))
    data = load_data(large, device="cpu", image_size=80, val_fraction=0.2)
    settings = TrainSettings(epochs=1, lr=0.02, batch_size=4)

    def network():
        torch.manual_seed(0)
        return load_model("resnet20", num_classes=2)

    def stop(done, total):
        if done == 12:
            raise Stop

    whole = network()
    train(whole, data, settings)
    with pytest.raises(Stop):
        train(network(), data, settings, checkpoint=tmp_path / "c", save_every=1, on_batch=stop)
    resumed, seen = network(), []

    def note(done, total):
        seen.append(done)

    train(resumed, data, settings, checkpoint=tmp_path / "c", on_batch=note)
    assert seen[0] == 16
    assert hash_tensors(resumed.state_dict()) == hash_tensors(whole.state_dict())


def test_patience_stops_and_takes_the_best_on_validation(few_digits, tmp_path):
    def stop(row):
        if row["epoch"] == 2:
            raise Stop

    settings = replace(QUICK, epochs=12, lr=0.3, patience=2)
    model = fresh()
    optimizer = make_optimizer(model, settings)
    history = train(model, few_digits, settings, optimizer=optimizer)
    assert not optimizer.state  # the momentum was not that of these weights
    best = history["val_accuracy"].idxmax()  # the first of equals
    assert len(history) == best + 3 < 12
    assert evaluate(model, few_digits.val).accuracy == history["val_accuracy"].max()
    with pytest.raises(Stop):
        train(fresh(), few_digits, settings, checkpoint=tmp_path / "c", on_epoch=stop)
    for _ in range(2):  # resumed, and loaded
        again = fresh()
        train(again, few_digits, settings, checkpoint=tmp_path / "c")
        assert hash_tensors(again.state_dict()) == hash_tensors(model.state_dict())


def test_an_optimizer_goes_on(few_digits):
    parts, whole = fresh(), fresh()
    settings = replace(QUICK, milestones=(), epochs=1)
    optimizer = make_optimizer(parts, settings)
    train(parts, few_digits, settings, optimizer=optimizer)
    train(parts, few_digits, replace(settings, seed=1), optimizer=optimizer)
    once = make_optimizer(whole, settings)
    train(whole, few_digits, settings, optimizer=once)
    train(whole, few_digits, replace(settings, seed=1))  # with a new one
    assert hash_tensors(parts.state_dict()) != hash_tensors(whole.state_dict())
    with pytest.raises(ValueError, match="would not be trained: the optimizer does not hold them"):
        train(fresh(), few_digits, settings, optimizer=optimizer)
    with pytest.raises(ValueError, match=r"goes on with torch\.optim\.SGD"):
        train(parts, few_digits, settings, optimizer=torch.optim.Adam(parts.parameters()))


def test_momentum_lies_as_its_weights_do(few_digits, tmp_path):
    settings = replace(QUICK, epochs=2, channels_last=True)
    model, path = fresh(), tmp_path / "c"
    with pytest.raises(Stop):
        train(model, few_digits, settings, checkpoint=path, save_every=1, on_batch=stop_at_once)
    for source in (path, None):  # once as it was read, once as it was given
        optimizer = make_optimizer(model, settings)
        if source is None:
            for parameter in model.parameters():
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros(parameter.shape)
        options = {"checkpoint": source, "optimizer": optimizer, "on_batch": stop_at_once}
        with pytest.raises(Stop):
            train(model, few_digits, settings, **options)
        for parameter, state in optimizer.state.items():
            assert state["momentum_buffer"].stride() == parameter.stride()
        assert model[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_a_checkpoint_from_before_a_setting_existed(few_digits, tmp_path):
    one = replace(QUICK, epochs=1)
    train(fresh(), few_digits, one, checkpoint=tmp_path / "c")
    tensors, header = read_tensors(tmp_path / "c")
    del header["training"]["patience"]
    header["training"]["compile"] = False  # how it ran, not what it learned
    write_tensors(tmp_path / "c", tensors, header)
    train(fresh(), few_digits, one, checkpoint=tmp_path / "c", on_epoch=never)
    with pytest.raises(ValueError, match="made with other settings: patience None, not 3"):
        train(fresh(), few_digits, replace(one, patience=3), checkpoint=tmp_path / "c")


def test_a_frozen_network_is_told(few_digits):
    with pytest.raises(ValueError, match="learns: each of its parameters"):
        train(fresh().requires_grad_(False), few_digits, QUICK)


def test_a_checkpoint_of_another_plan_of_equal_widths_is_refused(few_digits, tmp_path):
    whole, one = fresh(), replace(QUICK, epochs=1)
    graph = trace(whole, torch.zeros(few_digits.image_shape))
    plans = [make_plan(graph, {"*": 0.3}, order=order) for order in ("smallest", "largest")]
    train(prune(whole, plans[0]), few_digits, one, checkpoint=tmp_path / "c")
    train(prune(fresh(), plans[0]), few_digits, one, checkpoint=tmp_path / "c")  # it only loads
    with pytest.raises(ValueError, match="was pruned by another plan"):
        train(prune(whole, plans[1]), few_digits, one, checkpoint=tmp_path / "c")


def test_checkpoints_of_something_else_are_refused(few_digits, tmp_path):
    path = tmp_path / "c"
    one = replace(QUICK, epochs=1)
    train(fresh(), few_digits, one, checkpoint=path)
    with pytest.raises(ValueError, match=r"made with other settings: lr 0.02, not 0.5"):
        train(fresh(), few_digits, replace(one, lr=0.5), checkpoint=path)
    with pytest.raises(ValueError, match="holds another network"):
        train(load_model("resnet32"), few_digits, one, checkpoint=path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        train(fresh(), few_digits, one, checkpoint=path)
    path.write_bytes(whole[:-5] + b"12345")
    with pytest.raises(ValueError, match="was altered"):
        train(fresh(), few_digits, one, checkpoint=path)


def test_interrupting_says_how_to_resume(few_digits, tmp_path):
    def interrupt(row):
        raise KeyboardInterrupt

    words = r"stopped after 1 of 3 epochs; .*the same call goes on from there"
    with pytest.raises(KeyboardInterrupt, match=words):
        train(fresh(), few_digits, QUICK, checkpoint=tmp_path / "c", on_epoch=interrupt)


def test_batches_are_reported_and_may_stop_it(few_digits, tmp_path):
    seen = []

    def note(done, total):
        seen.append((done, total))

    def stop(done, total):
        note(done, total)
        if len(seen) == 6:
            raise KeyboardInterrupt

    def interrupt(done, total):
        raise KeyboardInterrupt

    evaluate(load_model("resnet20"), few_digits.val, batch_size=25, on_batch=note)
    assert seen == [(25, 60), (50, 60), (60, 60)]
    seen.clear()
    words = r"stopped after 1 of 3 epochs; .* holds what was saved last"
    with pytest.raises(KeyboardInterrupt, match=words):
        train(fresh(), few_digits, QUICK, checkpoint=tmp_path / "c", on_batch=stop)
    assert seen == [(64 * i, 3 * 256) for i in range(1, 7)]
    words = "stopped after 0 of 3 epochs; .* holds what was saved last"  # within the first epoch
    with pytest.raises(KeyboardInterrupt, match=words):
        train(fresh(), few_digits, QUICK, checkpoint=tmp_path / "d", on_batch=interrupt)
    stopped, whole = fresh(), fresh()
    train(stopped, few_digits, QUICK, checkpoint=tmp_path / "d")  # goes on after its first batch
    train(whole, few_digits, QUICK)
    assert hash_tensors(stopped.state_dict()) == hash_tensors(whole.state_dict())
    with pytest.raises(KeyboardInterrupt, match="stopped after 0 of 3 epochs; nothing was saved"):
        train(fresh(), few_digits, QUICK, on_batch=interrupt)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"lr": 0}, "'lr' must be greater than 0, got 0"),
        ({"lr": float("inf")}, "'lr' must be a finite number, got inf"),
        ({"momentum": float("nan")}, "'momentum' must be a finite number, got nan"),
        ({"momentum": 5}, "'momentum' must be less than 1, got 5"),
        ({"momentum": -1}, "'momentum' must be greater than or equal to 0, got -1"),
        ({"weight_decay": -1e-4}, "'weight_decay' must be greater than or equal to 0, got -0.0001"),
        ({"lr_drop": -0.1}, "'lr_drop' must be greater than 0, got -0.1"),
        ({"epochs": True}, "'epochs' must be a whole number, got True"),
        ({"epochs": 1.5}, "'epochs' must be a whole number, got 1.5"),
        ({"epochs": -1}, "'epochs' must be greater than or equal to 0, got -1"),
        ({"batch_size": 0}, "'batch_size' must be greater than or equal to 1, got 0"),
        ({"milestones": (80, 120)}, "'milestones.0' must be less than 1, got 80"),
        ({"patience": 0}, "'patience' must be greater than or equal to 1, got 0"),
        ({"patience": True}, "'patience' must be a whole number, got True"),
        ({"seed": "x"}, "'seed' must be a whole number, got 'x'"),
        ({"seed": 2**70}, "'seed' must be less than 4294967296, got 1180591620717411303424"),
        ({"augment": "no"}, "'augment' must be true or false, got 'no'"),
        ({"compile": 1}, "'compile' must be true or false, got 1"),
        ({"precision": "fp8"}, "'precision' must be 'float32' or 'bfloat16', got 'fp8'"),
        ({"epohcs": 1}, "unknown key 'epohcs'; did you mean 'epochs'?"),
    ],
)
def test_bad_settings(given, sentence):
    with pytest.raises(ValueError, match=f"^TrainSettings: {re.escape(sentence)}"):
        TrainSettings(**given)


def test_settings_of_numpy_and_yaml():
    settings = TrainSettings(
        epochs=np.int64(3), lr="1e-3", momentum=np.float64(0), milestones=[0.5]
    )
    assert settings == TrainSettings(epochs=3, lr=0.001, momentum=0.0, milestones=(0.5,))
    with pytest.raises(ValueError, match="'lr' must be greater than 0"):
        replace(settings, lr=0)


def test_settings_that_fail_later(few_digits):
    words = r"save_every must be a whole number, 1 or more \(batches\); got 0"
    with pytest.raises(ValueError, match=words):
        train(fresh(), few_digits, QUICK, save_every=0)
    with pytest.raises(ValueError, match="training diverged; a smaller lr"):
        train(fresh(), few_digits, replace(QUICK, lr=1e20))


def test_bfloat16_and_channels_last_train(few_digits):
    settings = replace(QUICK, epochs=1, precision="bfloat16", channels_last=True)
    history = train(fresh(), few_digits, settings)
    assert history["train_loss"].notna().all()


def test_wrong_objects_and_classes(digits):
    words = r"evaluate takes a split, such as data.test, not DataSplits"
    with pytest.raises(ValueError, match=words):
        evaluate(fresh(), digits)
    model = load_model("resnet20", num_classes=3)
    words = r"and the data 10 classes; .* load_model\(..., num_classes=10\)"
    with pytest.raises(ValueError, match=words):
        evaluate(model, digits.val)
    with pytest.raises(ValueError, match=words):
        train(model, digits, QUICK)


def test_a_single_epoch_has_the_whole_learning_rate():
    assert TrainSettings(epochs=1).lr_at(0) == 0.1


def test_compiled_it_learns_the_same(few_digits, monkeypatch):
    compiled = []

    def count(graph, inputs):
        compiled.append(graph)
        return graph.forward

    # the default one calls a C++ compiler, which takes a minute
    monkeypatch.setattr("torch.compile", partial(torch.compile, backend=count))
    settings = replace(QUICK, epochs=1)
    plain = train(fresh(), few_digits, replace(settings, compile=False))
    assert not compiled
    history = train(fresh(), few_digits, replace(settings, compile=True))
    assert compiled
    assert history.drop(columns="seconds").equals(plain.drop(columns="seconds"))


def test_what_is_no_data_set_or_no_settings_is_named(few_digits):
    model = load_model("resnet20")
    with pytest.raises(ValueError, match=r"train takes settings, such as .* not dict"):
        train(model, few_digits, {"epochs": 1})
    with pytest.raises(
        ValueError, match="train takes a data set, as load_data gives one, not Split"
    ):
        train(model, few_digits.train, TrainSettings(epochs=1))
