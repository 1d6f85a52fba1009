"""Files of weights that are damaged, lie or are made to harm: a sentence, or what was saved.

A header that lies has a digest that fits: anyone can compute one. `PRUNELAB_FUZZ=10000` draws more.
"""

import json
import os
import random
import resource
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from fuzzing import fuzz
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from prunelab import (
    TrainSettings,
    load_model,
    load_model_and_data,
    load_pruned,
    make_plan,
    prune,
    save_pruned,
    save_weights,
    trace,
    train,
)
from prunelab.models import open_saved, open_weights
from prunelab.models.loading import fill_network
from prunelab.utils import tensors as module
from prunelab.utils.tensors import is_ours, peek_header, read_state, read_tensors

X = torch.zeros(1, 3, 32, 32)
MEMORY = 2**30  # beyond what is there before


@pytest.fixture
def little_memory() -> Iterator[None]:
    """What asks for terabytes fails, also where the system would promise them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@cache
def network() -> nn.Module:
    torch.manual_seed(0)
    return load_model("resnet20")


@cache
def pruned() -> nn.Module:
    return prune(network(), make_plan(trace(network(), X), {"*": 0.9}))


def save_small(path: Path, **info: object) -> Path:
    return save_pruned(path, pruned(), pruned().pruning_plan, info=info)


@pytest.fixture(scope="module")
def files(tmp_path_factory, few_digits) -> dict[str, Path]:
    """A file of each kind of ours."""
    home = tmp_path_factory.mktemp("files")
    checkpoint, half = home / "training.safetensors", home / "half.safetensors"
    small = prune(network(), pruned().pruning_plan)
    train(small, few_digits, TrainSettings(epochs=1, lr=0.01), checkpoint=checkpoint)
    return {
        "pruned": save_small(home / "pruned.safetensors", classes=list("0123456789")),
        "weights": save_weights(home / "weights.safetensors", network()),
        "half": save_weights(half, network(), half=True, info={"normalization": "cifar10"}),
        "training": checkpoint,
        "another ending": save_weights(home / "weights.pt", network()),
    }


def same(one: Any, other: Any) -> bool:
    """Whether tensors have the same names and, bit for bit, the same numbers."""
    return module.hash_tensors(one) == module.hash_tensors(other)


def refused(read: Callable[[], object]) -> bool:
    """Whether a reader refuses a file by a sentence of ours; anything else it raises is raised."""
    try:
        read()
    except ValueError as error:
        told = error
    else:
        return False
    assert type(told) is ValueError
    assert "\n" not in str(told)
    assert len(str(told)) < 1500
    return True


# ---- damage: a file of ours, of any kind, at any place


def damage(content: bytes, kind: str, place: int, length: int, noise: random.Random) -> bytes:
    before, hit = content[:place], content[place : place + length]
    after = content[place + length :]
    return {
        "flip": before + bytes([hit[0] ^ 1 << noise.randrange(8)]) + hit[1:] + after,
        "zero": before + bytes(len(hit)) + after,
        "cut": before,
        "drop": before + after,
        "replace": before + noise.randbytes(len(hit)) + after,
        "insert": before + noise.randbytes(length) + hit + after,
        "double": before + hit + hit + after,
    }[kind]


KINDS = ("flip", "zero", "cut", "drop", "replace", "insert", "double")


@fuzz(100)
@given(st.data())
def test_damage_is_refused_by_every_reader(files, data):
    kind = data.draw(st.sampled_from(sorted(files)))
    content = files[kind].read_bytes()
    head = 8 + struct.unpack("<Q", content[:8])[0]
    marks = [content.index(mark) for mark in (b'"format"', b'"header"', b'"digest"')]
    places = st.sampled_from([0, *marks]).flatmap(lambda at: st.integers(at, at + 20))
    places |= st.integers(0, head - 1) | st.integers(0, len(content) - 1)
    place, length = data.draw(places), data.draw(st.integers(1, 40))
    noise = data.draw(st.randoms(use_true_random=False))
    altered = damage(content, data.draw(st.sampled_from(KINDS)), place, length, noise)
    with TemporaryDirectory() as folder:
        path = Path(folder) / files[kind].name
        path.write_bytes(altered)
        check_damaged(path, files[kind])


def check_damaged(path: Path, whole: Path) -> None:
    tensors, header = read_tensors(whole)
    is_ours(path), peek_header(path)

    def read() -> None:
        found, said = read_tensors(path)
        assert same(found, tensors)
        assert said == header

    def load() -> None:
        found, right = open_saved(path, "resnet20"), open_saved(whole, "resnet20")
        assert same(found.fetch(), right.fetch())
        assert (found.plan, found.architecture, found.info) == (
            right.plan,
            right.architecture,
            right.info,
        )
        assert same(load_model("resnet20", weights=path).state_dict(), loaded(whole))

    def load_small() -> None:
        assert same(load_pruned(path).state_dict(), tensors)

    refused(read)
    refused(load)
    refused(load_small)


@cache
def loaded(path: Path) -> dict[str, Tensor]:
    return load_model("resnet20", weights=path).state_dict()


@pytest.mark.parametrize("kind", ["pruned", "weights", "half", "training"])
@pytest.mark.parametrize("mark", [b'"format"', b"prunelab 1", b'"header"', b'"digest"', b"__meta"])
def test_a_file_of_ours_with_a_mark_altered_is_not_read_as_anothers(tmp_path, files, kind, mark):
    content = files[kind].read_bytes()
    place = content.index(mark) + 3
    path = tmp_path / "altered.safetensors"
    path.write_bytes(content[:place] + b"~" + content[place + 1 :])
    for read in (read_tensors, load_pruned, open_saved):
        with pytest.raises(ValueError, match=r"altered|not written by|not a whole"):
            read(path)
    with pytest.raises(ValueError, match=r"altered|not written by|not a whole"):
        load_model("resnet20", weights=path)


def test_the_shipped_checkpoints_are_read():
    paths = sorted((Path(__file__).parents[2] / "data" / "checkpoints").glob("*.safetensors"))
    assert paths
    for path in paths:
        assert read_tensors(path)[0]
        name = path.name.split("-")[0]
        assert open_saved(path).architecture == {"name": name, "num_classes": 10}


# ---- lies: the header of a file of ours, with a digest that fits


def lie(whole: Path, path: Path, text: str) -> Path:
    """A file's tensors under another header."""
    tensors, _ = read_tensors(whole)
    about = {"format": module.FORMAT, "header": text, "digest": module._digest(text, tensors)}
    save_file(tensors, path, about)
    return path


def alter(header: dict[str, Any], keys: tuple[Any, ...], value: object) -> str:
    *way, last = keys
    place = header
    for key in way:
        place = place[key]
    place[last] = value
    return json.dumps(header)


LAYER = "layer1.0.conv1"
NETWORK = ("architecture",)
LIES = {  # what is said, instead -> the sentence
    (*NETWORK, "num_classes"): [
        (10**9, "less than or equal to 1000000"),
        (10**5, "has 100000 classes, and no tensor of the file more than 64 rows"),
        (11, "have 10 classes, not 11|does not hold the tensors of its plan"),
        (-1, "greater than or equal to 1"),
        ("10", "valid integer, got '10'"),
        (10.0, "valid integer"),
        (True, "valid integer"),
        (None, "valid integer"),
    ],
    (*NETWORK, "name"): [
        (["resnet20"], "valid string"),
        (3, "valid string"),
        ("../../etc/passwd", "unknown model|holds a pruned"),
        ("os:system", "code of yours and not run|holds a pruned"),
        ("timm/hf_hub:some/one", "code of yours and not run|timm has no network|need timm"),
        ("res\0net", "must match pattern"),
        ("a" * 10**6, "at most 200 characters"),
    ],
    (*NETWORK, "options"): [
        ([1], "valid dictionary"),
        ({"width": 3}, "'options.width' is unknown"),
        ({"image_size": 10**9}, "less than or equal to 8192"),
        ({"transform_input": "no"}, "valid boolean"),
    ],
    NETWORK: [
        ([1], "valid dictionary"),
        ("resnet20", "valid dictionary"),
        ({}, "'name' is missing"),
        (
            {"name": "vit_b_16", "num_classes": 10, "options": {"image_size": 160_000}},
            "less than or equal to 8192",
        ),
    ],
    ("plan", "input_shapes"): [
        ([[1, 3, 10**6, 10**6]], "inputs hold 3000000000000 numbers, more than 67108864"),
        ([[10**4, 3, 224, 224]], "inputs hold 1505280000 numbers"),
        ([[1, 3, -1, 32]], "greater than or equal to 1"),
        ([[1, 3, 2**70, 32]], "less than or equal to 67108864"),
        ([[1, 3, 32.0, 32]], "valid integer"),
        ([[True, 3, 32, 32]], "valid integer"),
        ([[1] * 100], "at most 8 items"),
        (["ab"], "valid list"),
        (None, "valid list"),
    ],
    ("plan", "input_dtypes"): [
        (["nodtype"], "must be 'float16'"),
        (["load"], "must be 'float16'"),
        (["quint8"], "must be 'float16'"),
        (["float32"] * 2, "as many input_dtypes as input_shapes"),
        (None, "valid list"),
    ],
    ("plan", "settings"): [(None, "valid dictionary")],
    ("plan", "groups"): [(["conv1"], "valid dictionary"), ({"conv1": "fly"}, "'go' or 'stay'")],
    ("plan", "keep", LAYER): [
        ([False, True], "valid integer"),
        ([0.0, 1.0], "valid integer"),
        ([10**30], "in 0 … 15"),
        ([-1], "greater than or equal to 0"),
        ([], "at least 1 item"),
        ([0, 0], "sorted, distinct"),
        ("abc", "valid list"),
    ],
    ("plan", "widths", LAYER): [
        (10**15, "less than or equal to 65536"),
        (True, "valid integer"),
        (16.0, "valid integer"),
        (17, "made for another network"),
    ],
    ("plan", "evil"): [(1, "'evil' is unknown")],
    ("plan",): [
        (None, "'plan' must be a valid dictionary"),
        ([], "'plan' must be a valid dictionary"),
        ({}, "'keep' is missing"),
    ],
    ("info",): [([1], "'info' must be a valid dictionary"), ("ab", "valid dictionary")],
    ("rows",): [(5, "'rows' must be a valid list"), ([1], "'rows.0' must be a valid dictionary")],
    ("training",): [
        (None, "'training' must be a valid dictionary"),
        ({}, "'training.epochs' is missing"),
        ({"epochs": True}, "valid integer"),
        ({"epochs": 3}, "has no rows of its training's epochs"),
    ],
    ("part",): [([], "valid dictionary"), ({"batches": -1}, "greater than or equal to 0")],
}
OF_IMAGES = {  # which load_pruned does not look at
    "normalization": [
        ("junk", "must be one of imagenet"),
        (5, "must be one of imagenet"),
        ([1, 2], "must be one of imagenet"),
        ([["a"] * 3] * 2, "must be one of imagenet"),
        ([[10**400] * 3] * 2, "must be one of imagenet"),
        ([[float("nan")] * 3] * 2, "must be finite"),
    ],
}
NOT_LOOKED_AT = {
    "classes": [5, [1, 2], {"a": 1}, "ab"],
    "image_size": ["32", 10**9, -3, 3.5, [32, 32], True],
}


def list_lies(lies: dict[Any, Any]) -> list[Any]:
    return [
        pytest.param(key, value, words, id=f"{'.'.join(key)} {str(value)[:30]!r}")
        for key, each in lies.items()
        for value, words in each
    ]


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize(("keys", "value", "words"), list_lies(LIES))
def test_a_header_that_lies(tmp_path, files, keys, value, words):
    whole = files["pruned"]
    path = lie(whole, tmp_path / "x.safetensors", alter(read_tensors(whole)[1], keys, value))
    for read in (load_pruned, open_and_fill):
        with pytest.raises(ValueError, match=words) as told:
            read(path)
        assert len(str(told.value)) < 1000
    assert isinstance(peek_header(path), dict)


def open_and_fill(path: Path) -> nn.Module:
    """As `prunelab export` opens a file."""
    found = open_saved(path)
    about = found.architecture or {}
    return fill_network(about["name"], about.get("num_classes", 10), found, trusted_only=True)


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    list_lies({("info", key): each for key, each in OF_IMAGES.items()}),
)
def test_a_header_that_lies_of_its_images(tmp_path, files, keys, value, words):
    whole = files["pruned"]
    path = lie(whole, tmp_path / "x.safetensors", alter(read_tensors(whole)[1], keys, value))
    with pytest.raises(ValueError, match=words):
        load_model_and_data("resnet20", "digits", weights=path, device="cpu")
    assert same(load_pruned(path).state_dict(), pruned().state_dict())
    with pytest.raises(ValueError, match=words):
        save_pruned(path, pruned(), pruned().pruning_plan, info={keys[-1]: value})


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, own in NOT_LOOKED_AT.items() for value in own]
)
def test_notes_of_another_meaning_are_not_looked_at(tmp_path, name, value):
    path = save_small(tmp_path / "x.safetensors", **{name: value})
    with pytest.warns(UserWarning, match=rf"notes {name} .*, which is not looked at"):
        found = open_weights("resnet20", path)
    assert name not in found.info
    assert same(load_pruned(path).state_dict(), pruned().state_dict())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 10**5, "recursion"),
        ('{"z": ' + "[" * 60 + "]" * 60 + "}", "nested more than 50 deep"),
        ('{"plan": {}, "plan": {}}', "a key is there twice"),
        ('{"z": ' + "9" * 5000 + "}", "4300 digits"),
        ("[]", "must be a JSON object, not a list"),
        ("null", "must be a JSON object, not a NoneType"),
        ('"plan"', "must be a JSON object, not a str"),
        ("", "is not JSON"),
        ("{", "is not JSON"),
    ],
)
def test_headers_that_are_no_json_of_ours(tmp_path, files, text, words):
    path = lie(files["pruned"], tmp_path / "x.safetensors", text)
    for read in (load_pruned, open_saved, lambda path: load_model("resnet20", weights=path)):
        with pytest.raises(ValueError, match=words):
            read(path)
    assert peek_header(path) == {}


def test_a_file_that_does_not_name_its_network_asks_for_one(tmp_path, files):
    header = read_tensors(files["pruned"])[1]
    del header["architecture"]
    path = lie(files["pruned"], tmp_path / "x.safetensors", json.dumps(header))
    with pytest.raises(ValueError, match="holds a network of your own: pass an unpruned instance"):
        load_pruned(path)
    assert same(load_pruned(path, network()).state_dict(), pruned().state_dict())


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([0, 1, -1, 10, 16, 10**9, 2**31, 10**400, 1.0, -0.5, float("nan"), 1e308])
    | st.text(max_size=5)
    | st.sampled_from(["resnet20", "vgg16", "os:system", "float32", "go", "cifar10", "l1"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@fuzz(30)
@given(st.data())
@pytest.mark.usefixtures("little_memory")
def test_random_lies(files, data):
    whole = files[data.draw(st.sampled_from(["pruned", "training"]))]
    header = read_tensors(whole)[1]
    place, key = header, data.draw(st.sampled_from(sorted(header)))
    while isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans()):
        place = place[key]
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(keys))
    place[key] = data.draw(JSON)
    with TemporaryDirectory() as folder:
        path = lie(whole, Path(folder) / "x.safetensors", json.dumps(header))
        tensors = read_tensors(whole)[0]
        peek_header(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            refused(lambda: open_saved(path).preprocessing)
            refused(lambda: check_loaded(load_model("resnet20", weights=path)))
            refused(lambda: check_same(load_pruned(path), tensors))


def check_loaded(model: nn.Module) -> None:
    assert model(X).shape == (1, 10)


def check_same(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    assert same(model.state_dict(), tensors)


# ---- what is saved is what is read


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_pruned_file_keeps_its_kind_of_numbers(tmp_path, dtype):
    small = prune(network(), pruned().pruning_plan).to(dtype)
    path = save_pruned(tmp_path / "s.safetensors", small, small.pruning_plan)
    for again in (load_pruned(path), load_pruned(path, network())):
        assert same(again.state_dict(), small.state_dict())
        assert again.bn1.num_batches_tracked.dtype == torch.long
        images = X.to(dtype) if dtype != torch.bfloat16 else X.bfloat16()
        assert torch.equal(again(images), small.eval()(images))
    as_weights = load_model("resnet20", weights=path)
    assert {t.dtype for t in as_weights.state_dict().values()} == {torch.float32, torch.long}


def test_a_pruned_file_of_several_kinds_of_numbers(tmp_path):
    small = prune(network(), pruned().pruning_plan)
    small.layer2.half()
    small.linear.double()
    path = save_pruned(tmp_path / "s.safetensors", small, small.pruning_plan)
    assert same(load_pruned(path).state_dict(), small.state_dict())


def test_half_weights_become_float32(files):
    model = load_model("resnet20", weights=files["half"])
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model.conv1.weight, network().conv1.weight.half().float())


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    path, plan = tmp_path / "s.safetensors", pruned().pruning_plan
    empty = prune(network(), plan).to("meta")
    with pytest.raises(ValueError, match=r"conv1\.weight must be a plain tensor; .* device meta"):
        save_pruned(path, empty, plan)
    with pytest.raises(ValueError, match="device meta"):
        save_weights(path, load_model("resnet20").to("meta"))
    with pytest.raises(ValueError, match="takes a model of prune and its plan, not CifarResNet"):
        save_pruned(path, pruned(), None)
    for info, words in [
        ({"a": torch.ones(2)}, "info must be plain JSON values"),
        ([1], "info maps names to plain JSON values"),
        ({"a": {"1": 0, 1: 0}}, "a key is there twice"),
    ]:
        with pytest.raises(ValueError, match=words):
            save_pruned(path, pruned(), plan, info=info)
    assert not path.exists()


def test_another_architecture_of_a_users_is_left_out(tmp_path):
    small = prune(network(), pruned().pruning_plan)
    small.architecture = "U-Net"
    path = save_pruned(tmp_path / "s.safetensors", small, small.pruning_plan)
    assert read_tensors(path)[1]["architecture"] is None
    assert same(load_pruned(path, network()).state_dict(), small.state_dict())


def test_weights_that_are_not_finite_are_told(tmp_path):
    small = prune(network(), pruned().pruning_plan)
    small.bn1.running_var[0] = float("nan")
    path = save_pruned(tmp_path / "s.safetensors", small, small.pruning_plan)
    words = r"not finite, as of a training that failed: bn1\.running_var \(1\)"
    with pytest.warns(UserWarning, match=words):
        assert same(load_pruned(path).state_dict(), small.state_dict())
    with pytest.warns(UserWarning, match=words):
        load_model("resnet20", weights=path)
    large = {**network().state_dict(), "linear.bias": torch.full((10,), 1e300, dtype=torch.double)}
    torch.save(large, tmp_path / "large.pt")
    with pytest.warns(UserWarning, match="linear.bias"):  # which float32 does not hold
        load_model("resnet20", weights=tmp_path / "large.pt")


# ---- files of others


def small_file(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


WEIGHT = torch.ones(10, 64)
ODD_TENSORS = {
    "sparse": (WEIGHT.to_sparse(), "sparse or nested"),
    "sparse rows": (WEIGHT.to_sparse_csr(), "sparse or nested"),
    "meta": (WEIGHT.to("meta"), "on the device meta"),
    "quantised": (torch.quantize_per_tensor(WEIGHT, 0.1, 0, torch.qint8), "quantised"),
    "complex": (WEIGHT.to(torch.complex64), r"of another kind of numbers: linear\.weight \(1\)"),
    "whole numbers": (WEIGHT.long(), r"of another kind of numbers: linear\.weight"),
    "one number": (torch.tensor(1.0), r"of another shape: linear\.weight"),
    "expanded": (torch.zeros(1).expand(10**6, 10**6), r"would take 4000\d+ bytes of memory"),
}


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("kind", ODD_TENSORS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_odd_tensors_in_a_state_dict(tmp_path, kind):
    tensor, words = ODD_TENSORS[kind]
    path = small_file(tmp_path / "w.pt", {**network().state_dict(), "linear.weight": tensor})
    with pytest.raises(ValueError, match=words):
        load_model("resnet20", weights=path)


def test_tensors_that_are_as_good_as_plain(tmp_path):
    state = network().state_dict()
    for tensor in (nn.Parameter(WEIGHT), torch.ones(1).expand(10, 64), WEIGHT.double()):
        path = small_file(tmp_path / "w.pt", {**state, "linear.weight": tensor})
        assert torch.equal(load_model("resnet20", weights=path).linear.weight, WEIGHT)


def test_names_in_a_state_dict(tmp_path):
    state = network().state_dict()
    twice = small_file(tmp_path / "w.pt", {**state, "module.conv1.weight": state["conv1.weight"]})
    with pytest.raises(ValueError, match="holds a tensor twice, with module"):
        load_model("resnet20", weights=twice)
    for names in ({1: WEIGHT}, {(1, 2): WEIGHT}):
        with pytest.raises(ValueError, match="does not hold weights of resnet20"):
            load_model("resnet20", weights=small_file(tmp_path / "w.pt", names))
    wrapped = {"state_dict": {"model": {"net": state}}}
    assert same(read_state(small_file(tmp_path / "w.pt", wrapped)), state)
    for content in ([1], WEIGHT, None, {}, {"state_dict": {"state_dict": {"a": 1}}}):
        with pytest.raises(ValueError, match="holds no state dict"):
            load_model("resnet20", weights=small_file(tmp_path / "w.pt", content))


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
@pytest.mark.parametrize(
    "content",
    [b"", b"\x80", b".", b"\x80\x02.", b"a" * 100, b"PK\x03\x04", b"PK\x05\x06" + bytes(18)],
    ids=repr,
)
def test_a_few_bytes_are_no_weights(tmp_path, content, ending):
    path = tmp_path / f"w{ending}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="torn"):
        load_model("resnet20", weights=path)


@pytest.mark.usefixtures("little_memory")
def test_a_packed_file_that_grows(tmp_path):
    plain = small_file(tmp_path / "w.pt", {"a": torch.zeros(2**23)})
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    with pytest.raises(ValueError, match=r"would take 33.* more than 16 times its own size"):
        load_model("resnet20", weights=bomb)


def test_code_in_a_pickle_never_runs(tmp_path):
    touched = tmp_path / "touched"

    class Code:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {touched}",)

    for content in (Code(), {"a": Code()}, {"state_dict": {"a": WEIGHT, "b": Code()}}):
        for new in (True, False):
            path = tmp_path / "w.pt"
            torch.save(content, path, _use_new_zipfile_serialization=new)
            with pytest.raises(ValueError, match="a pickle that holds code"):
                load_model("resnet20", weights=path)
    assert not touched.exists()


def test_a_run_that_began_from_itself(tmp_path):
    def write(weights: object, shared: object) -> None:
        recipe = {"model": {"weights": weights}, "baseline_from": shared}
        (tmp_path / "run.json").write_text(json.dumps({"recipe": recipe, "seed": 0}))

    write(str(tmp_path), None)
    with pytest.raises(ValueError, match="is a run that began from itself"):
        load_model("resnet20", weights=tmp_path)
    write(None, "../elsewhere/run")
    with pytest.raises(ValueError, match=r"takes its baseline from '\.\./elsewhere/run-0'"):
        load_model("resnet20", weights=tmp_path)
    for text in ("[" * 10**5, json.dumps({"recipe": {"model": {"weights": 5}}})):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(ValueError, match=r"its run\.json is none of ours"):
            load_model("resnet20", weights=tmp_path)


NUMBERS = st.sampled_from([-1, 0, 1, 2, 8, 2**31, 2**62, 2**64 - 1, 1.5, True, None, "8"])
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "BOOL", "F8_E4M3", "F4", "X", 3]),
        "shape": st.lists(NUMBERS, max_size=3) | NUMBERS,
        "data_offsets": st.lists(NUMBERS, min_size=2, max_size=2) | NUMBERS,
    }
)


@fuzz(300)
@given(
    st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), ENTRY | JSON, max_size=3),
    st.integers(0, 40) | st.none(),
    st.none() | st.integers(0, 2**64 - 1),
)
@pytest.mark.usefixtures("little_memory")
def test_random_safetensors(entries, size, length):
    """Lengths, shapes and places that lie, beside few that do not."""
    if size is None:  # right, whatever it is
        entries, size = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, **entries}, 8
    text = json.dumps(entries).encode()
    head = struct.pack("<Q", len(text) if length is None else length)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "w.safetensors"
        path.write_bytes(head + text + bytes(size))
        check_foreign(path)


@fuzz(75)
@given(st.data())
@pytest.mark.usefixtures("little_memory")
def test_damaged_state_dicts(data):
    """Of others, without a digest: whatever is read is plain tensors, no larger than the file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "w.pt"
        new = data.draw(st.booleans())
        content = {"state_dict": {"module.a": torch.arange(6.0), "b": torch.tensor(2)}}
        torch.save(content, path, _use_new_zipfile_serialization=new)
        whole = path.read_bytes()
        place, length = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 20))
        noise = data.draw(st.randoms(use_true_random=False))
        kind = data.draw(st.sampled_from(KINDS))
        path.write_bytes(damage(whole, kind, place, length, noise))
        check_foreign(path)


def check_foreign(path: Path) -> None:
    def read() -> None:
        state = read_state(path)
        assert all(type(name) is str for name in state)
        taken = sum(tensor.clone().untyped_storage().nbytes() for tensor in state.values())
        assert taken <= module.GROWTH * path.stat().st_size

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refused(read)
        assert refused(lambda: load_model("resnet20", weights=path))
        assert refused(lambda: load_pruned(path))
    is_ours(path), peek_header(path)
