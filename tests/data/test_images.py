"""Any image a folder may hold: its mode, its size and aspect, how it lies, and what is refused."""

import struct
import zlib
from contextlib import nullcontext as nothing

import numpy as np
import pytest
import torch
from PIL import Image
from small import make_folder

from prunelab import load_data
from prunelab.data import Split, open_image

RAMP = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)  # 8 bits, as 16 bits hold them


def read(path, image, **options):
    image.save(path, **options)
    return np.asarray(open_image(str(path)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "RGB"])
def test_eight_bit_modes_are_as_pil_converts_them(tmp_path, mode):
    image = Image.fromarray(np.arange(768, dtype=np.uint8).reshape(16, 16, 3)).convert(mode)
    found = read(tmp_path / "a.tif", image)
    assert found.shape == (16, 16, 3)
    assert np.array_equal(found, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["png", "tif", "pgm"])
def test_sixteen_bit_greys_are_scaled(tmp_path, kind):
    found = read(tmp_path / f"a.{kind}", Image.fromarray(RAMP))
    for colour in range(3):
        assert found[..., colour].ravel().tolist() == list(range(256))
    assert read(tmp_path / f"b.{kind}", Image.fromarray(RAMP // 257 * 257 + 128))[0, 1, 0] == 1


def test_big_endian_and_wide_greys_are_scaled(tmp_path):
    big = Image.frombytes("I;16B", (16, 16), RAMP.astype(">u2").tobytes())
    assert read(tmp_path / "a.tif", big)[..., 0].ravel().tolist() == list(range(256))
    wide = Image.fromarray(RAMP.astype(np.int32))
    assert wide.mode == "I"
    assert read(tmp_path / "b.tif", wide)[..., 0].ravel().tolist() == list(range(256))
    floats = Image.fromarray(np.arange(256, dtype=np.float32).reshape(16, 16) / 255)
    assert read(tmp_path / "c.tif", floats)[..., 0].ravel().tolist() == list(range(256))


@pytest.mark.parametrize(
    ("top", "dtype", "sentence"),
    [
        (70000, np.int32, r"a.tif .*16-bit greys must be in \[0, 65535\], not 0 … 70000"),
        (255, np.float32, r"a.tif .*floats must be in \[0, 1\], not 0.0 … 255.0"),
        (np.nan, np.float32, r"floats must be in \[0, 1\], not nan"),
    ],
)
def test_greys_out_of_range(tmp_path, top, dtype, sentence):
    with pytest.raises(ValueError, match=sentence):
        read(tmp_path / "a.tif", Image.fromarray(np.array([[0, top]], dtype)))


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_exif_orientation(tmp_path, kind):
    upright = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    # how a camera stores it, by the EXIF standard: 6 is shown turned to the right, and so on
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: np.rot90(upright, 2),
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    for orientation, pixels in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = Image.fromarray(np.ascontiguousarray(pixels))
        found = read(tmp_path / f"{orientation}.{kind}", image, exif=exif)
        assert np.array_equal(found, upright), orientation


def test_a_broken_exif_block_says_nothing(tmp_path):
    image = Image.new("RGB", (8, 8), "red")
    found = read(tmp_path / "a.png", image, exif=b"Exif\x00\x00no TIFF header")
    assert np.array_equal(found, np.asarray(image))


def test_small_images_of_mixed_sizes_get_their_median_shorter_side(tmp_path):
    folder = make_folder(tmp_path / "images", (40, 20))
    for i in range(3):
        Image.new("RGB", (64, 50)).save(folder / "train" / "cats" / f"{i}.png")
    wide = np.zeros((20, 40, 3), np.uint8)
    wide[:, 10:30] = 200
    Image.fromarray(wide).save(folder / "train" / "dogs" / "0.png")
    data = load_data(folder, device="cpu", val_fraction=0.01)
    assert data.image_shape == (1, 3, 20, 20)
    assert isinstance(data.train, Split)
    # of the wide one, the middle
    assert (data.train.images.flatten(1) == 200).all(1).any()


def test_an_odd_image_that_the_sample_missed_is_fitted(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "images")
    Image.new("RGB", (90, 70)).save(folder / "train" / "dogs" / "3.png")
    Image.new("RGB", (7, 9)).save(folder / "test" / "dogs" / "3.png")
    sizes = []
    monkeypatch.setattr(
        "prunelab.data.cache.read_size", lambda file: sizes.append(file) or (32, 32)
    )
    data = load_data(folder, device="cpu")
    assert len(sizes) == 24
    assert data.image_shape == (1, 3, 32, 32)


def test_the_sample_is_small_and_has_some_of_each_class(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "images", counts=(400, 1))
    (folder / "train" / "owls").mkdir()
    for i in range(2):
        Image.new("RGB", (32, 32)).save(folder / "train" / "owls" / f"{i}.png")
    files = []
    monkeypatch.setattr("prunelab.data.cache.read_size", lambda file: files.append(file) or (65, 8))
    data = load_data(folder, device="cpu")
    assert data.image_shape == (1, 3, 224, 224)
    assert not isinstance(data.train, Split)
    assert len(files) <= 200
    for name in ("cats/0.png", "dogs/0.png", "owls/0.png"):
        assert any(file.endswith(name) for file in files)


def test_large_images_are_read_upright_for_each_batch(tmp_path):
    folder = make_folder(tmp_path / "images", (90, 70))
    greys = np.zeros((70, 90), np.uint16)
    greys[:, :45] = 65535  # on its side: the left half becomes the upper one
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(greys).save(folder / "test" / "cats" / "0.png", exif=exif)
    data = load_data(folder, device="cpu", image_size=80, normalization=((0, 0, 0), (1, 1, 1)))
    image = next(data.test.batches(1))[0][0]
    assert torch.allclose(image[:, :30], torch.ones(()))
    assert torch.allclose(image[:, -30:], torch.zeros(()))


def test_bad_images(folder):
    bad = folder / "train" / "dogs" / "3.png"
    bad.write_bytes(b"no image")
    for size in (None, 32):
        with pytest.raises(ValueError, match=r"dogs/3.png cannot be read as an image"):
            load_data(folder, image_size=size)


@pytest.mark.parametrize("side", [10_000, 30_000])
def test_images_that_claim_huge_sizes(folder, side):
    """A header alone: PIL warns of the smaller one, and refuses the larger one."""
    chunks = b""
    for kind, content in (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
    ):
        body = kind + content
        chunks += struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
    (folder / "train" / "dogs" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    pixels = rf"dogs/3.png .*({side}×{side}|{side**2}) pixels"
    with (
        pytest.warns(Image.DecompressionBombWarning) if side == 10_000 else nothing(),
        pytest.raises(ValueError, match=pixels),
    ):
        load_data(folder)
