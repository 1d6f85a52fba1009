"""torch Datasets of (image, label): held against folders of the same pictures."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from small import make_folder
from torch.utils.data import Dataset, IterableDataset, TensorDataset
from torchvision.datasets import FakeData, ImageFolder
from torchvision.transforms import v2

from prunelab import load_data
from prunelab.data import Split, data_from, take

FLOATS = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
FORMS = {
    "PIL": None,
    "uint8": v2.PILToTensor(),
    "numpy": v2.Compose([v2.PILToTensor(), v2.Lambda(lambda image: image.numpy())]),
    "floats": FLOATS,
}


class Pairs(Dataset):
    """Images (n, c, h, w) and labels, as they are."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


def some(n=12, shape=(3, 8, 8), classes=3):
    images = torch.randint(256, (n, *shape), generator=torch.Generator().manual_seed(0))
    return Pairs(images.byte(), [i % classes for i in range(n)])


@pytest.mark.parametrize("form", FORMS)
def test_small_pairs_are_as_a_folder_of_them(folder, form):
    parts = [ImageFolder(folder / part, FORMS[form]) for part in ("train", "test")]
    data = data_from(*parts, name="pets", device="cpu", val_fraction=0.25, seed=3)
    same = load_data(folder, device="cpu", val_fraction=0.25, seed=3)
    assert data.name == "pets"
    assert data.classes == ("cats", "dogs")
    assert data.normalization == same.normalization
    for part in ("train", "val", "test"):
        ours, theirs = getattr(data, part), getattr(same, part)
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.labels, theirs.labels)


@pytest.mark.parametrize("form", ["PIL", "floats"])
def test_large_pairs_are_as_a_folder_of_them(tmp_path, form):
    folder = make_folder(tmp_path / "large", (90, 70), (4, 2))
    parts = [ImageFolder(folder / part, FORMS[form]) for part in ("train", "test")]
    data = data_from(*parts, device="cpu", image_size=80)
    same = load_data(folder, device="cpu", image_size=80)
    assert not isinstance(data.train, Split)
    assert data.normalization == same.normalization
    for part in ("train", "val", "test"):
        batches = (next(getattr(d, part).batches(8, seed=0, augment=True)) for d in (data, same))
        (images, labels), (others, theirs) = batches
        assert torch.equal(images, others)
        assert torch.equal(labels, theirs)
    item = pickle.loads(pickle.dumps(take(data.val, torch.tensor([1])).files[0]))
    assert np.array_equal(np.asarray(item.open()), np.asarray(Image.open(same.val.files[1])))


def test_own_val_and_grey_images_without_flips():
    data = data_from(
        some(), some(6, (1, 8, 8)), val=some(9), device="cpu", flip=False, classes=["a", "b", "c"]
    )
    assert (len(data.train), len(data.val), len(data.test)) == (12, 9, 6)
    assert data.classes == ("a", "b", "c")
    assert not data.train.flip
    assert torch.equal(data.test.images[:, 0], data.test.images[:, 2])
    assert torch.equal(data.train.images, some().images)


def test_labels_may_be_tensors_and_sizes_mixed():
    images = [Image.new("I;16", (10 + i, 12), 257 * i) for i in range(9)]
    train = Pairs(images, [np.int64(i % 3) for i in range(9)])
    test = TensorDataset(some().images, torch.arange(12) % 3)
    data = data_from(train, test, device="cpu")
    assert data.classes == ("0", "1", "2")
    assert data.image_shape == (1, 3, 12, 12)
    assert data.train.images[:, 0, 0, 0].sum() + data.val.images[:, 0, 0, 0].sum() == sum(range(9))


def test_targets_are_believed_where_items_agree(monkeypatch):
    read = []

    class Counted(Pairs):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    train, test = (Counted(*vars(some(200)).values()) for _ in range(2))
    train.targets = torch.tensor(train.labels)
    test.targets = [2 - label for label in test.labels]  # before a target_transform
    data = data_from(train, test, image_size=70, device="cpu")
    assert len(read) == 64 + 64 + 200
    assert data.test.labels.tolist() == test.labels


@pytest.mark.parametrize("size", [None, 70])
def test_fingerprints_tell_images_labels_and_order_apart(size):
    def load(train, test):
        return data_from(train, test, image_size=size, device="cpu")

    dark, relabelled = some(), some()
    dark.images = dark.images // 2
    relabelled.labels = relabelled.labels[::-1]
    parts = [(some(), some()), (dark, some()), (some(), dark), (relabelled, some())]
    loaded = [load(*pair) for pair in parts]
    assert len({data.fingerprint for data in loaded}) == 4
    again = load(some(), some())
    assert again.fingerprint == loaded[0].fingerprint
    if size:  # a measurement knows its images by this
        assert repr(again.train.files) == repr(loaded[0].train.files)
        assert len({repr(data.train.files) for data in loaded[:2]}) == 2


def test_a_dataset_of_torchvision():
    train, test = (FakeData(n, (3, 100, 90), 4, random_offset=n) for n in (16, 8))
    data = data_from(train, test, classes=list("abcd"), device="cpu", val_fraction=0.3)
    assert data.image_shape == (1, 3, 224, 224)
    assert len(data.train) + len(data.val) == 16
    images, labels = next(data.test.batches(8))
    assert images.shape == (8, 3, 224, 224)
    assert labels.tolist() == [test[i][1] for i in range(8)]


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.zeros(3, 8, 8), 0


NORMALISED = v2.Normalize([0.5] * 3, [0.5] * 3)(some().images / 255)
WRONG = {
    "train is a Stream, which cannot be asked for its i-th item": Stream(),
    "train is a zip, which cannot be asked": zip([], [], strict=True),
    "train is empty": some(0),
    "must be a pair .image, label., not a Tensor": some().images,
    "give the dataset without Normalize: prunelab normalises": Pairs(NORMALISED, some().labels),
    "item 0 of the Pairs: .* c 1 or 3, not shape .4, 8, 8.": some(shape=(4, 8, 8)),
    "c 1 or 3, not shape .8, 8.": some(shape=(8, 8)),
    "c 1 or 3, not str": Pairs(["a.png"] * 4, [0, 0, 1, 1]),
    "must be uint8, or floats in .0, 1., not torch.int32": Pairs(
        some().images.int(), some().labels
    ),
    "a label must be a whole number, not 'cat'": Pairs(some().images, ["cat"] * 12),
    "train has the label 3; the 3 classes are 0 … 2": some(classes=4),
    "train has the label -1": Pairs(some().images, [-1, 1] * 6),
    "train holds one class only": some(classes=1),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_wrong_datasets(sentence):
    for size in (None, 70):
        with pytest.raises(ValueError, match=sentence):
            data_from(WRONG[sentence], some(), classes=["a", "b", "c"], image_size=size)


def test_wrong_settings():
    with pytest.raises(ValueError, match="test has the label 4; the 3 classes are"):
        data_from(some(), some(classes=5), device="cpu")
    with pytest.raises(ValueError, match="val_fraction must be between"):
        data_from(some(), some(), val_fraction=0)
