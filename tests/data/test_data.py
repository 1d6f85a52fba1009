import os
import pickle
import warnings

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from small import make_folder

from prunelab import load_data
from prunelab.data import NORMALIZATIONS, Split, augment_batch


def test_digits(digits):
    assert len(digits.train) + len(digits.val) + len(digits.test) == 1797
    assert digits.train.images.shape[1:] == (3, 32, 32)
    assert digits.train.images.dtype == torch.uint8
    other = load_data("digits", device="cpu", seed=1)
    # the seed moves the validation split alone
    assert torch.equal(other.test.images, digits.test.images)
    assert not torch.equal(other.val.images, digits.val.images)


def test_batches_are_normalised_and_repeat_by_seed(digits):
    images = torch.cat([images for images, _ in digits.train.batches(100)])
    assert images.mean().abs() < 1e-3
    assert (images.std() - 1).abs() < 1e-2
    once, again, other = (list(digits.train.batches(64, seed=s, augment=True)) for s in (5, 5, 6))
    for (images, labels), (same_images, same_labels) in zip(once, again, strict=True):
        assert torch.equal(images, same_images)
        assert torch.equal(labels, same_labels)
    assert not torch.equal(once[0][0], other[0][0])
    assert sum(len(labels) for _, labels in once) == len(digits.train)


def test_crops_are_windows_of_the_padded_image():
    images = torch.arange(2 * 3 * 6 * 6, dtype=torch.uint8).reshape(2, 3, 6, 6)
    padded = torch.nn.functional.pad(images, (4, 4, 4, 4))
    draws = torch.tensor([[0, 7], [8, 2], [1, 0]])  # down, right, mirrored when even
    crops = augment_batch(images, draws, flip=True)
    assert torch.equal(crops[0], padded[0, :, 0:6, 8:14])
    assert torch.equal(crops[1], padded[1, :, 7:13, 2:8].flip(2))


def test_folder(folder):
    data = load_data(folder, device="cpu", val_fraction=0.25)
    assert data.classes == ("cats", "dogs")
    assert (len(data.train), len(data.val), len(data.test)) == (18, 6, 8)
    assert data.val.labels.bincount().tolist() == [3, 3]
    assert data.name == folder.name
    assert f"{folder.name}: 18 train" in repr(data)


def test_folder_is_decoded_once_and_keyed_by_content(folder, monkeypatch):
    first = load_data(folder, device="cpu")
    with monkeypatch.context() as patch:
        patch.setattr("prunelab.data.cache._decode", lambda *_: pytest.fail("decoded again"))
        assert torch.equal(load_data(folder, device="cpu").train.images, first.train.images)
    Image.new("RGB", (32, 32), "red").save(folder / "train" / "cats" / "0.png")
    changed = load_data(folder, device="cpu")
    assert changed.fingerprint != first.fingerprint


def test_a_damaged_cache_is_said_and_made_again(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("prunelab.data.datasets.data_dir", lambda: tmp_path)
    first = load_data(folder, device="cpu")
    (cache,) = (tmp_path / "cache").iterdir()
    whole = cache.read_bytes()
    for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:100], b""):
        cache.write_bytes(damaged)
        with pytest.warns(UserWarning, match="the images are decoded again"):
            again = load_data(folder, device="cpu")
        assert torch.equal(again.train.images, first.train.images)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it is whole again
            load_data(folder, device="cpu")


def test_a_cache_of_another_decoder_is_not_read(folder, monkeypatch):
    first = load_data(folder, device="cpu")
    monkeypatch.setattr("prunelab.data.cache.DECODER", 99)
    monkeypatch.setattr("prunelab.data.cache.fit_image", lambda _, size: torch.zeros(3, size, size))
    again = load_data(folder, device="cpu")
    assert again.fingerprint == first.fingerprint
    assert not again.train.images.any()


def test_fingerprints_are_those_of_version_0_4(tmp_path):
    """Trainings that were stopped then go on: these were noted with that version."""
    for part, count in (("train", 3), ("test", 1)):
        for shade, name in ((60, "cats"), (180, "dogs")):
            (tmp_path / "a" / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = b"P6 8 8 255\n" + bytes([shade, i, 0]) * 64
                (tmp_path / "a" / part / name / f"{i}.ppm").write_bytes(pixels)
    known = {
        None: "1cb88703387d24dd83e7bec818c11cc1 val 0.1 seed 0",
        4: "9c44e4489f85cbadac84664403932c9c val 0.1 seed 0",
        80: "072d8a100d507a6d068b139658532316 val 0.1 seed 0 80px",
    }
    for size, fingerprint in known.items():
        data = load_data(tmp_path / "a", image_size=size, device="cpu")
        assert data.fingerprint == fingerprint


def test_folder_with_val_and_test(folder):
    for name in ("cats", "dogs"):
        (folder / "val" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(folder / "val" / name / "a.jpg")
    data = load_data(folder, device="cpu")
    assert (len(data.train), len(data.val), len(data.test)) == (24, 2, 8)


def test_large_images_are_read_from_disk(tmp_path):
    data = load_data(make_folder(tmp_path / "large", (90, 70)), device="cpu", image_size=80)
    images, labels = next(data.train.batches(4, seed=0, augment=True))
    assert images.shape == (4, 3, 80, 80)
    assert len(labels) == 4
    assert not isinstance(data.train, Split)
    assert data.normalization == NORMALIZATIONS["imagenet"]


def test_large_images_are_augmented_alike_whichever_worker_reads_them(tmp_path, monkeypatch):
    data = load_data(make_folder(tmp_path / "large", (90, 70)), device="cpu", image_size=80)
    whole = list(data.train.batches(4, seed=3, augment=True))
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    rest = list(data.train.batches(4, seed=3, augment=True, skip=2))
    assert len(rest) == len(whole) - 2 > 1
    for (images, labels), (other, names) in zip(rest, whole[2:], strict=True):
        assert torch.equal(images, other)
        assert torch.equal(labels, names)
    assert not torch.equal(next(data.train.batches(4, seed=4, augment=True))[0], whole[0][0])


def test_folder_of_classes_alone(folder):
    plain = folder / "train"
    data = load_data(plain, device="cpu", val_fraction=0.2)
    assert (len(data.train), len(data.val), len(data.test)) == (16, 4, 4)
    assert data.test.labels.bincount().tolist() == [2, 2]
    other = load_data(plain, device="cpu", val_fraction=0.2, seed=1)
    assert torch.equal(other.test.images, data.test.images)
    assert not torch.equal(other.val.images, data.val.images)
    for i in range(2, 12):
        (plain / "dogs" / f"{i}.png").unlink()
    with pytest.raises(ValueError, match=r"takes 3 images of a class or more, .* fewer of dogs"):
        load_data(plain)


def test_a_class_may_lack_in_test_but_not_in_train(folder):
    for image in (folder / "test" / "dogs").iterdir():
        image.unlink()
    data = load_data(folder, device="cpu")
    assert data.classes == ("cats", "dogs")
    assert data.test.labels.tolist() == [0] * 4
    (folder / "test" / "dogs").rename(folder / "test" / "owls")
    Image.new("RGB", (32, 32)).save(folder / "test" / "owls" / "a.png")
    with pytest.raises(ValueError, match="has classes in test that train lacks: owls; move"):
        load_data(folder)


def test_bad_folders(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match="did you mean 'cifar10'"):
        load_data("cifar-10")
    with pytest.raises(FileNotFoundError, match=r"<class>/\* alone; a table \(.csv, .parquet\)"):
        load_data("pictures.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="for each class; it holds nothing"):
        load_data(tmp_path / "empty")
    (tmp_path / "empty" / "train").mkdir()
    with pytest.raises(ValueError, match=r"must hold train/<class>/\* with .*; it holds train"):
        load_data(tmp_path / "empty")
    (tmp_path / "empty" / "test").mkdir()
    with pytest.raises(ValueError, match="for each class; it holds nothing"):
        load_data(tmp_path / "empty")
    for part in ("train", "test"):
        for image in (folder / part / "dogs").iterdir():
            image.unlink()
    with pytest.raises(ValueError, match="has no images in dogs"):
        load_data(folder)
    for part in ("train", "test"):
        (folder / part / "dogs").rmdir()
    with pytest.raises(ValueError, match=r"holds one class only \(cats\)"):
        load_data(folder)


def test_a_class_with_one_image_has_none_to_hold_out(folder):
    for i in range(1, 12):
        (folder / "train" / "dogs" / f"{i}.png").unlink()
    with pytest.raises(ValueError, match="class dogs has a single training image"):
        load_data(folder)


def test_a_name_that_is_not_utf8(folder):
    bad = folder / "train" / os.fsdecode(b"caf\xe9")
    try:
        bad.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    Image.new("RGB", (32, 32)).save(bad / "a.png")
    with pytest.raises(ValueError, match=r"train/caf\\udce9/a.png is not UTF-8; rename it"):
        load_data(folder)


def test_bad_settings(folder):
    with pytest.raises(ValueError, match="normalization must be one of imagenet"):
        load_data(folder, normalization="imgnet")
    with pytest.raises(ValueError, match="val_fraction must be between 0 and 1"):
        load_data(folder, val_fraction=1.0)
    with pytest.raises(ValueError, match="unknown device 'gpu'"):
        load_data(folder, device="gpu")
    with pytest.raises(ValueError, match="image_size must be a whole number from 1 to 8192"):
        load_data(folder, image_size=0)
    with pytest.raises(ValueError, match="image_size is for image folders, and digits is none"):
        load_data("digits", image_size=64)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="torch sees 0 GPUs; use 'cpu' or 'auto'"):
            load_data(folder, device="cuda")


def test_another_normalization(folder):
    data = load_data(folder, device="cpu")
    other = data.with_normalization("imagenet")
    assert other.fingerprint == data.fingerprint
    for split in (other.train, other.val, other.test):
        assert split.normalization == NORMALIZATIONS["imagenet"]
    assert data.normalization != other.normalization
    assert other.with_normalization(None).normalization == data.normalization
    large = load_data(folder, device="cpu", image_size=80, normalization="cifar10")
    assert large.with_normalization(None).normalization == NORMALIZATIONS["imagenet"]


@pytest.mark.parametrize("std", [(0, 1, 1), (-1, 1, 1), (1, float("nan"), 1), (float("inf"), 1, 1)])
def test_bad_normalizations(std):
    sentence = "must be finite, and its deviations more than 0"
    with pytest.raises(ValueError, match=sentence):
        load_data("digits", normalization=((0.5, 0.5, 0.5), std))
    with pytest.raises(ValueError, match=sentence):
        load_data("digits", normalization=((0.5, float("nan"), 0.5), (1, 1, 1)))


def test_cifar10_from_local_files(tmp_path, monkeypatch):
    """torchvision's own reader, on files of its layout; only the checksums are replaced."""
    home = tmp_path / "data" / "cifar-10-batches-py"
    home.mkdir(parents=True)
    dataset = torchvision.datasets.CIFAR10
    monkeypatch.setattr(dataset, "_check_integrity", lambda self: True)
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *_: True)
    for name, _ in [*dataset.train_list, *dataset.test_list]:
        batch = {"data": np.full((40, 3072), 7, np.uint8), "labels": [i % 10 for i in range(40)]}
        (home / name).write_bytes(pickle.dumps(batch))
    (home / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    data = load_data("cifar10", device="cpu")
    assert (len(data.train), len(data.val), len(data.test)) == (180, 20, 40)
    assert data.train.images.shape == (180, 3, 32, 32)


def test_cifar10_missing(monkeypatch):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torchvision.datasets.cifar, "download_and_extract_archive", offline)
    sentence = r"could not be downloaded.*put cifar-10-python.tar.gz there"
    with pytest.raises(FileNotFoundError, match=sentence):
        load_data("cifar10")
