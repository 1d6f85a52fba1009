"""A signal is obeyed between two batches, where nothing is lost."""

import os
import signal

import pytest
import torch
from small import tiny_network

from prunelab import TrainSettings, train
from prunelab.utils.stopping import Terminated, noting_stops
from prunelab.utils.tensors import read_tensors, write_tensors

SETTINGS = TrainSettings(epochs=2, lr=0.02, batch_size=64, milestones=())


def fresh():
    torch.manual_seed(0)
    return tiny_network()


@pytest.fixture(scope="module")
def whole(few_digits):
    """A training that was left alone: its network and its epochs."""
    model = fresh()
    return model, train(model, few_digits, SETTINGS)


@pytest.mark.parametrize(
    ("batch", "number", "error"),  # within an epoch, at its end, in the next one
    [
        (2, signal.SIGINT, KeyboardInterrupt),
        (4, signal.SIGTERM, Terminated),
        (6, signal.SIGTERM, Terminated),
    ],
)
def test_a_signal_loses_nothing(few_digits, tmp_path, whole, batch, number, error):
    expected, history = whole
    seen = []

    def ask(done, total):
        seen.append(done)
        if len(seen) == batch:
            os.kill(os.getpid(), number)

    path, model = tmp_path / "t.safetensors", fresh()
    with pytest.raises(error, match="holds what was saved last"):
        train(model, few_digits, SETTINGS, checkpoint=path, on_batch=ask)
    assert len(seen) == batch
    again = fresh()
    rest = train(again, few_digits, SETTINGS, checkpoint=path, on_batch=ask)
    assert len(seen) == 8  # of 4 batches in 2 epochs, each was done once
    names = ["train_loss", "val_loss", "test_loss"]
    assert rest[names].equals(history[names])
    own, left_alone = again.state_dict(), expected.state_dict()
    assert all(torch.equal(own[name], left_alone[name]) for name in own)


def test_asked_twice_one_stops_at_once():
    with noting_stops() as stops:
        os.kill(os.getpid(), signal.SIGINT)
        assert stops.asked == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_was_ignored_still_is():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with noting_stops() as stops:
            os.kill(os.getpid(), signal.SIGTERM)
        assert stops.asked is None
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("lie", ["momentum.x", "momentum.99", "part.loss"])
def test_a_checkpoint_that_lies_with_a_digest_of_its_own(few_digits, tmp_path, lie):
    path = tmp_path / "t.safetensors"

    def stop(done, total):
        if done > 300:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny_network(), few_digits, SETTINGS, checkpoint=path, on_batch=stop)
    tensors, header = read_tensors(path)
    if lie in tensors:
        del tensors[lie]
    else:
        tensors[lie] = torch.zeros(3)
    write_tensors(path, tensors, header)
    with pytest.raises(ValueError, match=r"is no whole training \(.*\): move it away"):
        train(tiny_network(), few_digits, SETTINGS, checkpoint=path)
