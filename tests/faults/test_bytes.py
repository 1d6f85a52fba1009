"""Any file of a run damaged at any place: what is read is right, or refused by a sentence."""

import random
import shutil
import warnings
from pathlib import Path

import pandas as pd
import pytest

from prunelab import load_model, load_pruned, load_recipe, read_log, read_rows

SAME = ["kind", "weights", "test_accuracy", "flops", "epochs", "evidence"]
WAYS = ("flipped", "zeroed", "replaced", "cut off")
FILES = """rows.csv log.jsonl run.json history.csv classes.csv sensitivity.csv sensitivity.jsonl
    plan.json pruned.safetensors scratch.safetensors baseline.safetensors retrain.safetensors
    scratch-training.safetensors""".split()


def damage(content: bytes, way: str, chance: random.Random) -> bytes:
    """Up to eight bytes flipped, zeroed or replaced, or the end cut off."""
    place, count = chance.randrange(len(content)), chance.choice([1, 1, 8])
    if way == "cut off":
        return content[:place]
    old = content[place : place + count]
    new = {
        "flipped": bytes([old[0] ^ 1 << chance.randrange(8)]) + old[1:],
        "zeroed": bytes(len(old)),
        "replaced": chance.randbytes(len(old)),
    }[way]
    return content[:place] + new + content[place + len(old) :]


@pytest.fixture(scope="module")
def recipe():
    changes = ["baseline.epochs=1", "retrain.epochs=1", "sensitivity=[conv_2]", "continued=false"]
    return load_recipe("digits-quick", changes)


@pytest.fixture(scope="module")
def run(recipe, few_digits, tmp_path_factory):
    """A folder of a run that is done, and its rows."""
    out = tmp_path_factory.mktemp("run")
    rows = replay_all(recipe, few_digits, out)
    return out, rows


def replay_all(recipe, data, out):
    from prunelab import Experiment

    found = Experiment(recipe, data=data, device="cpu", out=out)
    found.sensitivity()
    found.retrained()
    found.scratch()
    found.classes()
    return found.report()


def test_each_file_is_damaged(run):
    names = {path.name for path in (run[0] / "digits-quick-0").iterdir()}
    assert {name for name in names if not name.startswith(".")} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file(name, run, recipe, few_digits, tmp_path, times, tally, chance):
    whole, rows = run
    for turn in range(times):
        way = WAYS[(turn + len(name)) % len(WAYS)]
        out = tmp_path / str(turn)
        shutil.copytree(whole, out)
        path = out / "digits-quick-0" / name
        content = path.read_bytes()
        damaged = damage(content, way, chance)
        path.write_bytes(damaged)
        tally(f"Bytes {way} in {name}", False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = replay_all(recipe, few_digits, out)
            except (ValueError, OSError) as error:
                assert str(path) in str(error)  # noqa: PT017
                path.unlink()  # as the sentence says
                found = replay_all(recipe, few_digits, out)
            pd.testing.assert_frame_equal(found[SAME], rows[SAME], check_dtype=False)
            assert len(read_log(path.parent)) == len(read_log(whole / "digits-quick-0"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # all is mended
            again = read_rows(out)[SAME], read_rows(whole)[SAME]
            pd.testing.assert_frame_equal(*again, check_dtype=False)
        tally(f"Bytes {way} in {name}", True)
        shutil.rmtree(out)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".safetensors")])
def test_damaged_weights_are_not_read(name, run, tmp_path, times, tally, chance):
    whole = (run[0] / "digits-quick-0" / name).read_bytes()
    path = Path(tmp_path / name)
    path.write_bytes(whole)
    read = load_pruned if name in ("pruned.safetensors", "scratch.safetensors") else read_whole
    right = read(path).state_dict()
    for turn in range(20 * times):
        path.write_bytes(damage(whole, WAYS[turn % len(WAYS)], chance))
        if path.read_bytes() == whole:
            continue
        fault = f"Bytes {WAYS[turn % len(WAYS)]} in {name}, read as weights"
        tally(fault, False)
        try:
            found = read(path).state_dict()
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017
        else:
            assert all(found[key].equal(tensor) for key, tensor in right.items())
        tally(fault, True)


def read_whole(path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_model("resnet20", weights=path)
