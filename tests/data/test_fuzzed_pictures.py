"""What a user may give: refused with a sentence, soon, and before it takes memory.

First the cases that have a name, then random ones: 40 of a kind by default; PRUNELAB_FUZZ is how
many else.
"""

import io
import os
import socket
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from fuzzing import fuzz
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, features
from small import make_folder
from torch.utils.data import TensorDataset

from prunelab import DataSplits, load_data
from prunelab.data import NORMALIZATIONS, FileSplit, Split, data_from, open_image

IMAGENET = NORMALIZATIONS["imagenet"]


@contextmanager
def sentence(*names: str) -> Iterator[None]:
    """Nothing is raised, or an error of one line that holds the names."""
    try:
        yield
    except (ValueError, OSError) as error:
        check(error, names)


def check(error: Exception, names: tuple[str, ...]) -> None:
    text = str(error)
    assert type(error) in (ValueError, FileNotFoundError), type(error)
    assert text.isprintable(), text
    assert 10 < len(text) < 2000
    for name in names:
        assert name in text


def split_of(labels: list[int], size: int = 8) -> Split:
    images = torch.zeros(len(labels), 3, size, size, dtype=torch.uint8)
    return Split(images, torch.tensor(labels, dtype=torch.long), IMAGENET)


def no_files() -> FileSplit:
    return FileSplit([], torch.zeros(0, dtype=torch.long), IMAGENET, 80, torch.device("cpu"))


def pairs(labels: list[int]) -> TensorDataset:
    return TensorDataset(split_of(labels).images, torch.tensor(labels))


# --- splits and their labels


@pytest.mark.parametrize("empty", [split_of([]), no_files()], ids=["small", "large"])
def test_an_empty_split(empty):
    assert sum(len(labels) for _, labels in empty.batches(4)) == 0
    full = split_of([0, 1])
    with pytest.raises(ValueError, match="val is empty; it must hold images"):
        DataSplits("mine", full, empty, full, ("a", "b"), "")


@pytest.mark.parametrize("label", [-1, 2])
def test_labels_out_of_range(label):
    odd, full = split_of([0, label]), split_of([0, 1])
    found = rf"val has the label {label}; the 2 classes are 0 … 1"
    with pytest.raises(ValueError, match=found):
        DataSplits("mine", full, odd, full, ("a", "b"), "")
    for size in (8, 70):
        with pytest.raises(ValueError, match=found):
            data_from(*[pairs([0, 1])] * 2, val=pairs([0, label]), image_size=size)


@pytest.mark.parametrize("size", [8, 70])
def test_labels_without_end(size):
    with pytest.raises(ValueError, match="the label 1000000000, which would make 1000000001 cl"):
        data_from(pairs([0, 10**9] * 3), pairs([0, 1]), image_size=size)
    far = [(torch.zeros(3, 8, 8), 2**70)] * 4
    with pytest.raises(ValueError, match=r"item 0 of the list: the label 11.* more than 64 bits"):
        data_from(far, far, image_size=size)


def test_a_split_of_other_shapes():
    images, labels = split_of([0, 1]).images, torch.tensor([0, 1])
    for odd in (images[:1], images[:, :1], images[0], images.float()):
        with pytest.raises(ValueError, match=r"a Split holds uint8 images \(n, 3, h, w\) and n"):
            Split(odd, labels, IMAGENET)


@pytest.mark.parametrize("batch_size", [0, -1, "x", 1.5, True])
def test_a_wrong_batch_size(batch_size):
    for split in (split_of([0, 1]), no_files()):
        with pytest.raises(ValueError, match="batch_size must be a whole number, 1 or more"):
            list(split.batches(batch_size))


# --- settings

ODD = ("x", "", "1", None, True, -1, 2**70, 1.5, float("nan"), float("inf"), 1j, b"x", [1], (), {})
ODD_NORMALIZATIONS = (
    *(odd for odd in ODD if odd is not None),
    [["a", "b", "c"]] * 2,
    ["abc", "def"],
    [[1, 1, 1], [1, 1, [1]]],
    [[1, 1], [1, 1]],
    [[None] * 3, [1] * 3],
    [[10**400] * 3, [1] * 3],
    [[1j] * 3, [1] * 3],
    {"abc": 1, "def": 2},
)


@pytest.mark.parametrize("odd", ODD_NORMALIZATIONS, ids=repr)
def test_odd_normalizations(odd):
    with pytest.raises(ValueError, match=r"normalization must be one of|must be finite"):
        load_data("digits", normalization=odd)


@pytest.mark.parametrize(
    "numbers", [((0.5,) * 3, (1e-50, 1, 1)), ((0.5,) * 3, (1e-42, 1, 1)), ((1e39, 0, 0), (1,) * 3)]
)
def test_a_deviation_that_is_zero_in_32_bits(numbers):
    with pytest.raises(ValueError, match="must be finite, and its deviations more than 0"):
        load_data("digits", normalization=numbers)


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_odd_settings(folder, odd):
    with pytest.raises(ValueError, match="val_fraction must be between 0 and 1, not"):
        load_data(folder, val_fraction=odd)
    with pytest.raises(ValueError, match="seed must be a whole number from 0 to"):
        load_data(folder, seed=odd)
    if odd is not None:
        with pytest.raises(ValueError, match="image_size must be a whole number from 1 to 8192"):
            load_data(folder, image_size=odd)
    with pytest.raises(ValueError, match="device"):
        load_data(folder, device=odd)
    with pytest.raises((ValueError, FileNotFoundError), match=r"data must be a name|no data '"):
        load_data(odd)


def test_a_device_that_torch_cannot_use(folder):
    with pytest.raises(ValueError, match="torch cannot use the device 'meta'"):
        load_data(folder, device="meta")


@pytest.mark.parametrize("classes", [5, "ab", 1.5, True])
def test_odd_classes(classes):
    with pytest.raises(ValueError, match="classes must be a list of names, not"):
        data_from(pairs([0, 1] * 3), pairs([0, 1]), classes=classes)


@pytest.mark.parametrize(
    "image",
    [
        torch.full((3, 8, 8), float("nan")),
        torch.zeros(3, 0, 8),
        torch.zeros(3, 8, 8).to(torch.float8_e5m2),
        np.full((3, 8, 8), None),
        np.full((3, 8, 8), "a"),
        np.zeros((3, 8, 8), ">f4"),
        Image.new("RGB", (0, 0)),
        Image.fromarray(np.full((8, 8), np.nan, np.float32)),
    ],
    ids=["nan", "no pixels", "float8", "objects", "text", "big endian", "empty", "nan in PIL"],
)
def test_odd_images_of_a_dataset(image):
    with pytest.raises(ValueError, match="item 0 of the list: "):
        data_from([(image, 0)] * 4, [(image, 1)] * 4)


# --- image files


def png(width: int, height: int, pixels: bytes = b"", more: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + more + chunk(b"IDAT", zlib.compress(pixels))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def chunk(kind: bytes, content: bytes) -> bytes:
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def tiff(pixels: bytes, width: int, **tags: int) -> bytes:
    """One row, by TIFF's own numbers of its tags."""
    known = {"t256": width, "t257": 1, "t259": 1, "t277": 1, "t278": 1, "t279": len(pixels)}
    entries = {int(name[1:]): value for name, value in (known | tags).items()}
    start = 8 + 2 + 12 * (len(entries) + 1) + 4
    entries[324 if 322 in entries else 273] = start
    found = b"".join(struct.pack("<HHII", tag, 4, 1, n) for tag, n in sorted(entries.items()))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + found + bytes(4) + pixels


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def webp(side: int) -> bytes:
    """Two frames of 16×16 on a canvas that claims more."""
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    found = bytearray(encode(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    place = found.index(b"VP8X") + 12
    found[place : place + 6] = (side - 1).to_bytes(3, "little") * 2
    return bytes(found)


TILED = {"t258": 8, "t262": 1, "t322": 40_000, "t323": 40_000, "t325": 20}
BOMBS = {
    "60000.png": png(60_000, 60_000),
    "9000.png": png(9000, 9000),
    "tile.tif": tiff(zlib.compress(bytes(99)), 8, **TILED | {"t259": 8}),
    "9000.webp": webp(9000),
    "text.png": png(4, 4, bytes(52), chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**28)))),
    "profile.png": png(4, 4, bytes(52), chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**28)))),
}
TRY = """
import resource, sys
from pathlib import Path
from PIL import Image
from prunelab.data import load_data, open_image
import pyarrow.parquet
def peak(who=resource.RUSAGE_SELF):
    return resource.getrusage(who).ru_maxrss // 1024
home, before = Path(sys.argv[1]), peak()
for file in sorted(home.glob("bombs/*")):
    try:
        open_image(str(file)) if file.suffix != ".parquet" else load_data(file)
        print("not refused:", file.name)
    except ValueError as error:
        assert str(file) in str(error)
print(peak() - before)
data = load_data(home / "strips", image_size=80, device="cpu")
assert next(data.train.batches(4))[0].shape == (4, 3, 80, 80)
print(peak(resource.RUSAGE_CHILDREN) - before)
"""


def test_bombs_take_no_memory(tmp_path):
    """In a process of its own, whose largest size is asked for; and a strip is never resized."""
    (tmp_path / "bombs").mkdir()
    for name, content in BOMBS.items():
        (tmp_path / "bombs" / name).write_bytes(content)
    few = pa.DictionaryArray.from_arrays(pa.array(np.zeros(10**7, np.int32)), ["a" * 30])
    pq.write_table(pa.table({"path": few, "label": few}), tmp_path / "bombs" / "rows.parquet")
    long = few[:1000].cast(pa.string()).dictionary_encode()
    long = pa.DictionaryArray.from_arrays(long.indices, ["a" * 10**6])
    pq.write_table(pa.table({"path": long, "label": long}), tmp_path / "bombs" / "long.parquet")
    strips = make_folder(tmp_path / "strips", (8, 8), (4, 3))
    for path in strips.glob("train/*/*.png"):
        Image.new("RGB", (4, 200_000)).save(path)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRY, str(tmp_path)], capture_output=True, text=True
    )
    assert not done.returncode, done.stderr
    refused, resized = done.stdout.splitlines()
    assert int(refused) < 100  # MB
    assert int(resized) < 100


@pytest.mark.parametrize(
    ("bits", "black", "pixels", "shades"),
    [
        (12, 1, bytes([0, 0x08, 0, 0xFF, 0xF0, 0]), [0, 128, 255, 0]),
        (16, 0, struct.pack("<4H", 0, 257, 65278, 65535), [255, 254, 1, 0]),
        (8, 0, bytes([0, 1, 254, 255]), [255, 254, 1, 0]),
    ],
)
def test_tiffs_of_12_bits_and_those_whose_zero_is_white(tmp_path, bits, black, pixels, shades):
    (tmp_path / "a.tif").write_bytes(tiff(pixels, 4, t258=bits, t262=black))
    found = np.asarray(open_image(str(tmp_path / "a.tif")))
    assert found[0, :, 0].tolist() == shades


def test_32_bit_tiffs_keep_their_brightness(tmp_path):
    greys = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    Image.fromarray(greys).save(tmp_path / "a.tif")
    found = np.asarray(open_image(str(tmp_path / "a.tif")))[..., 1]
    assert np.abs(found / 255 - greys).max() < 1e-3
    Image.fromarray((greys * 65535).astype(np.int32)).save(tmp_path / "b.tif")
    found = np.asarray(open_image(str(tmp_path / "b.tif")))[..., 1]
    assert np.abs(found / 255 - greys).max() < 1 / 255


@pytest.mark.parametrize("side", [16, 80])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_of_small_and_large_images(tmp_path, side, orientation):
    stored = Image.new("L", (side, side))
    stored.paste(255, (0, 0, side // 2, side // 2))  # a corner, which goes where EXIF says
    corners = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1)}
    exif = Image.Exif()
    exif[0x0112] = orientation
    folder = make_folder(tmp_path / "images", (side, side), (4, 1))
    stored.save(folder / "test" / "cats" / "0.png", exif=exif)
    options = {"image_size": side, "normalization": ((0,) * 3, (1,) * 3), "device": "cpu"}
    image = next(load_data(folder, **options).test.batches(1))[0][0, 0]
    quarters = {
        (down, right): image[down * 3 * side // 4 :, right * 3 * side // 4 :][0, 0].item()
        for down in (0, 1)
        for right in (0, 1)
    }
    assert max(quarters, key=quarters.__getitem__) == corners.get(orientation, (1, 0))


def test_an_animation_is_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    for kind, options in (("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True})):
        path = tmp_path / f"a.{kind.lower()}"
        path.write_bytes(
            encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        )
        assert open_image(str(path)).getpixel((3, 3)) == (255, 0, 0)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_below_transparency_the_colours_are_seen(tmp_path, mode):
    image = Image.new("RGBA", (8, 8), (200, 200, 200, 0)).convert(mode)
    image.save(tmp_path / "a.png", **({"transparency": bytes(256)} if mode == "P" else {}))
    found = open_image(str(tmp_path / "a.png")).getpixel((0, 0))
    assert max(abs(shade - 200) for shade in found) < 10  # a palette of the web's colours is near


def test_nothing_is_run_that_a_file_asks_for(tmp_path, monkeypatch):
    """An EPS is a program, which PIL gives to Ghostscript."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "a.png").write_bytes(encode(Image.new("RGB", (8, 8)), "EPS"))
    with pytest.raises(ValueError, match=r"a.png cannot be read as an image"):
        open_image(str(tmp_path / "a.png"))
    assert not (tmp_path / "ran").exists()


def test_what_a_worker_cannot_read_is_one_sentence(tmp_path):
    folder = make_folder(tmp_path / "images", (90, 70), (4, 2))
    noise = Image.effect_noise((90, 70), 50)
    (folder / "test" / "dogs" / "1.png").write_bytes(encode(noise, "PNG")[:-1000])
    data = load_data(folder, image_size=80, device="cpu")
    with pytest.raises(ValueError, match=r"dogs/1.png cannot be read as an image \(.*\)") as raised:
        list(data.test.batches(2))
    assert "\n" not in str(raised.value)


# --- folders


def as_socket(path: Path) -> None:
    place = os.getcwd()
    os.chdir(path.parent)  # a socket's path may have 108 characters
    with socket.socket(socket.AF_UNIX) as own:
        own.bind(path.name)
    os.chdir(place)


def as_link(to: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(to)


def as_chain(path: Path) -> None:
    path.symlink_to(path.parent / "0.png")
    for i in range(60):
        path.rename(path.parent / f"{i}.link")
        path.symlink_to(path.parent / f"{i}.link")


NODES: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "socket": as_socket,
    "device": as_link("/dev/zero"),
    "broken link": as_link("nowhere"),
    "link to itself": as_link("3.png"),
    "endless chain": as_chain,
}


@pytest.mark.parametrize("node", NODES)
def test_what_is_named_as_an_image_and_is_no_file(folder, node):
    path = folder / "train" / "dogs" / "3.png"
    path.unlink()
    NODES[node](path)
    for size in (32, 80):
        with pytest.raises(ValueError, match=r"dogs/3.png has the name of an image, and is neit"):
            load_data(folder, image_size=size)
    with pytest.raises(ValueError, match=r"3.png cannot be read as an image \(it is no file\)"):
        open_image(str(path))


def test_links_are_followed_and_circles_end(folder, tmp_path):
    plain = load_data(folder, device="cpu")
    (folder / "train" / "dogs").rename(tmp_path / "elsewhere")
    (folder / "train" / "dogs").symlink_to(tmp_path / "elsewhere")
    (folder / "test" / "dogs" / "0.png").rename(tmp_path / "0.png")
    (folder / "test" / "dogs" / "0.png").symlink_to(tmp_path / "0.png")
    assert load_data(folder, device="cpu").fingerprint == plain.fingerprint
    circle = folder / "train" / "circle"
    circle.symlink_to("..")
    with pytest.raises(ValueError, match="it has no images in circle"):
        load_data(folder)
    circle.unlink()
    for to in ("circle", "nowhere"):
        circle.symlink_to(to)
        with pytest.raises(ValueError, match=r"the link .*train/circle leads nowhere; mend or rem"):
            load_data(folder)
        circle.unlink()


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_class_whose_name_is_not_utf8(folder, part):
    bad = folder / part / os.fsdecode(b"\xff")
    try:
        bad.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    if part == "train":
        with pytest.raises(ValueError, match=r"it has no images in \\udcff$"):
            load_data(folder)
    Image.new("RGB", (32, 32)).save(bad / "a.png")
    with pytest.raises(ValueError, match=r"(is not UTF-8; rename it|train lacks: \\udcff; )") as e:
        load_data(folder)
    assert str(e.value).isprintable()


@pytest.mark.parametrize("name", ["a\nb", "<b>x<b>", 'it\'s "q"', "\x1b[31mred", "\u202eabc"])
def test_odd_names(folder, name):
    odd = folder / "train" / name
    odd.mkdir()
    with pytest.raises(ValueError, match="it has no images in ") as raised:
        load_data(folder)
    assert str(raised.value).isprintable()
    (odd / f"{name}.png").write_bytes(b"")
    with pytest.raises(ValueError, match="cannot be read as an image") as raised:
        load_data(folder)
    assert str(raised.value).isprintable()
    for i in range(3):
        Image.new("RGB", (32, 32)).save(odd / f"{i}{name}.png")
    (odd / f"{name}.png").unlink()
    assert name in load_data(folder, device="cpu").classes


# --- tables

GOOD = [(f"train/{name}/{i}.png", name) for name in ("cats", "dogs") for i in range(4)]
CSV = "path,label\n" + "".join(f"{path},{label}\n" for path, label in GOOD)
ODD_TABLES = {
    "2 columns named label; keep one": CSV.replace("label", "label,label").replace("s\n", "s,x\n"),
    "field larger than field limit": CSV + "x" * 2**20 + ",cats\n",
    r"are missing: .*0\\x00.png": CSV.replace("0.png", "0\0.png"),
    "utf-16 is not UTF-8": CSV.encode("utf-16"),
    "binary is not UTF-8": bytes(range(256)),
    "unexpected end of data": CSV + '"abc',
    "has nothing; it needs path and label": "\n\n",
    "has path;label; it needs path": CSV.replace(",", ";"),
    "are missing: .*x…x": CSV + "x" * 5000 + ",cats\n",
    "unknown split in table.csv 'x*…x*'": "path,label,split\na,b," + "x" * 999,
    r"are missing: .*/a\\nb\\x1b.png": CSV + '"a\nb\x1b.png",cats\n',
    "has c0, c1, c2, c3, c4 …; it needs": ",".join(f"c{i}" for i in range(10**5)),
    "are missing: /dev/zero;": CSV + "/dev/zero,cats\n",
    r"9\…9*\); a classifier needs": f"path,label\ntrain/cats/0.png,{'9' * 5000}\n",
}


@pytest.mark.parametrize("found", ODD_TABLES)
def test_odd_tables(folder, found):
    content = ODD_TABLES[found]
    path = folder / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if "UTF" in found:
        found = "table.csv is not UTF-8"
    with pytest.raises((ValueError, FileNotFoundError), match=found) as raised:
        load_data(path)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 1500


def test_tables_as_programs_write_them(folder):
    path = folder / "table.csv"
    wide = CSV.replace("label\n", "label" + ",x" * 10**5 + "\n").replace(
        "s\n", "s" + "," * 10**5 + "\n"
    )
    formula = CSV.replace(",cats", ",=1+cmd|' /C calc'!A0")
    for text in (CSV, CSV.replace("\n", "\r\n"), CSV.replace("\n", "\n \n"), wide, formula):
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
        data = load_data(path, device="cpu")
        assert len(data.train) + len(data.val) + len(data.test) == 8
    assert data.classes[0] == "=1+cmd|' /C calc'!A0"


PATHS, LABELS = [path for path, _ in GOOD], [label for _, label in GOOD]
ODD_COLUMNS = {
    "label is a column of list": [[label] for label in LABELS],
    "label is a column of struct": [{"a": 1}] * 8,
    "label is a column of fixed_size_binary": pa.array([b"a"] * 8, pa.binary(1)),
    "table.parquet is not UTF-8": [b"\xff"] * 8,
    "an empty label in row 1 .8 in all": pa.nulls(8),
    "an empty label in row 8 .1 in all": pa.array([*LABELS[:7], None]).dictionary_encode(),
}


@pytest.mark.parametrize("found", ODD_COLUMNS)
def test_odd_columns_of_parquet(folder, found):
    path = folder / "table.parquet"
    pq.write_table(pa.table({"path": PATHS, "label": ODD_COLUMNS[found]}), path)
    with pytest.raises(ValueError, match=found):
        load_data(path)


def test_two_columns_of_parquet_with_one_name(folder):
    path = folder / "table.parquet"
    pq.write_table(pa.Table.from_arrays([PATHS, LABELS, LABELS], ["path", "label", "label"]), path)
    with pytest.raises(ValueError, match="it has 2 columns named label; keep one"):
        load_data(path)


@pytest.mark.parametrize(
    "labels", [[0, 1] * 4, [b"0", b"1"] * 4, pa.array(["0", "1"] * 4).dictionary_encode()]
)
def test_columns_of_parquet_that_are_taken(folder, labels):
    pq.write_table(pa.table({"path": PATHS, "label": labels}), folder / "table.parquet")
    assert load_data(folder / "table.parquet", device="cpu").classes == ("0", "1")


# --- random ones


def seeds() -> list[tuple[str, bytes]]:
    """Small images, in each mode that a format takes."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 10, 4), np.uint8)
    picture = Image.fromarray(noise, "RGBA")
    modes = {m: picture.convert(m) for m in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")}
    modes["I;16"] = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    modes["I"] = Image.fromarray(noise[..., 0].astype(np.int32))
    modes["F"] = Image.fromarray(noise[..., 0].astype(np.float32) / 255)
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: dict[str, dict[str, object]] = {
        "PNG": {"exif": exif, "save_all": True, "append_images": [picture.convert("RGB")]},
        "JPEG": {"exif": exif},
        "TIFF": {"exif": exif},
        "GIF": {"save_all": True, "append_images": [picture.convert("P")], "transparency": 3},
        "WEBP": {"exif": exif},
        "BMP": {},
        "PPM": {},
    }
    kinds |= {
        kind: {}
        for kind, name in (("JPEG2000", "jpg_2000"), ("AVIF", "avif"))
        if features.check(name)
    }
    found = [("tiff", tiff(bytes(6), 4, t258=12, t262=1)), ("webp", webp(16))]
    for kind, options in kinds.items():
        for mode, image in modes.items():
            try:
                found.append((f"{kind} {mode}", encode(image, kind, **options)))
            except (OSError, ValueError, KeyError):
                continue  # a mode that the format lacks
    for packing in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        found.append((packing, encode(modes["RGB"], "TIFF", compression=packing)))
    return found


SEEDS = seeds()
PLACES = st.floats(0, 1, exclude_max=True)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), PLACES, st.integers(1, 255)),
        st.tuples(st.just("cut"), PLACES, st.just(0)),
        st.tuples(st.just("zero"), PLACES, st.integers(1, 64)),
        st.tuples(st.just("fill"), PLACES, st.integers(1, 8)),
        st.tuples(st.just("leave out"), PLACES, st.integers(1, 8)),
    ),
    max_size=6,
)


def change(content: bytes, changes: list[tuple[str, float, int]]) -> bytes:
    found = bytearray(content)
    for kind, where, n in changes:
        # more of them near the beginning, where headers are
        place = int(where**3 * len(found))
        if kind == "flip" and found:
            found[place] ^= n
        elif kind == "cut":
            del found[int(where * len(found)) :]
        elif kind in ("zero", "fill"):
            own = len(found[place : place + n])
            found[place : place + own] = (b"\0" if kind == "zero" else b"\xff") * own
        elif kind == "leave out":
            del found[place : place + n]
    return bytes(found)


def test_seeds_are_images(tmp_path):
    assert len(SEEDS) > 35
    for name, content in SEEDS:
        (tmp_path / "a.png").write_bytes(content)
        assert sorted(open_image(str(tmp_path / "a.png")).size)[-1] in (4, 12, 16), name


@fuzz(40)
@given(st.lists(st.tuples(st.sampled_from(SEEDS), CHANGES), min_size=4, max_size=4))
@pytest.mark.filterwarnings("ignore")
def test_random_images(drawn):
    with tempfile.TemporaryDirectory() as folder:
        for i, ((_, content), changes) in enumerate(drawn):
            path = Path(folder) / f"{i}.png"
            path.write_bytes(change(content, changes))
            with sentence(str(path)):
                image = open_image(str(path))
                assert image.mode == "RGB"
                assert len(image.tobytes()) == 3 * image.width * image.height


NAMES = st.one_of(
    st.sampled_from(["cats", "dogs", "train", "test", "val", ".hidden", "a.png", "x\ny", "0"]),
    st.binary(min_size=1, max_size=6).map(os.fsdecode),
).filter(lambda name: "/" not in name and "\0" not in name and name not in (".", ".."))
CONTENTS = st.one_of(
    st.sampled_from([content for _, content in SEEDS[:12]]),
    st.sampled_from(list(NODES)),
    st.binary(max_size=50),
)
FILES = st.lists(st.tuples(NAMES, st.sampled_from([".png", ".JPG", ""]), CONTENTS), max_size=4)


@fuzz(40)
@given(
    st.dictionaries(NAMES, FILES, max_size=4),
    st.sampled_from(["train", "test", "val", "."]),
    st.sampled_from([None, 16]),
)
def test_random_folders(classes, part, size):
    with tempfile.TemporaryDirectory() as home:
        folder = make_folder(Path(home) / "images", (8, 8), (3, 1))
        for name, files in classes.items():
            (folder / part / name).mkdir(exist_ok=True, parents=True)
            for stem, suffix, content in files:
                put(folder / part / name / f"{stem}{suffix}", content)
        with sentence():
            assert load_data(folder, image_size=size, device="cpu").classes


def put(path: Path, content: bytes | str) -> None:
    if path.exists() or path.is_symlink():
        return
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        NODES[content](path)


CELLS = st.one_of(
    st.sampled_from(["path", "label", "split", "train", "test", "cats", "", "0", *PATHS]),
    st.text(max_size=8),
)


@fuzz(40)
@given(
    st.lists(st.lists(CELLS, max_size=4), max_size=4),
    st.sampled_from([",", ";", "\t"]),
    CHANGES,
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
)
@example([], ",", [], "utf-8")
def test_random_tables(rows, comma, changes, encoding):
    with tempfile.TemporaryDirectory() as home:
        folder = make_folder(Path(home) / "images", (8, 8), (4, 1))
        text = CSV + "".join(comma.join(row) + "\n" for row in rows)
        path = folder / "table.csv"
        path.write_bytes(change(text.encode(encoding, errors="replace"), changes))
        with sentence():
            assert load_data(path, device="cpu").classes
        path = folder / "table.parquet"
        cells = [cell for row in rows for cell in row][:8]
        labels = [*cells, *LABELS[len(cells) :]]
        pq.write_table(pa.table({"path": PATHS, "label": labels}), path)
        path.write_bytes(change(path.read_bytes(), changes))
        with sentence():
            assert load_data(path, device="cpu").classes


JUNK = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.complex_numbers(),
        st.text(max_size=5),
        st.binary(max_size=5),
        st.sampled_from(["auto", "cpu", "imagenet", 0.2, 16, 80, 2**70, 10**9, np.float32(0.3)]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner, inner),
        st.dictionaries(st.text(max_size=2), inner, max_size=2),
    ),
    max_leaves=6,
)
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "device": JUNK,
        "val_fraction": st.one_of(st.floats(0, 1), JUNK),
        "seed": st.one_of(st.integers(0, 99), JUNK),
        "normalization": st.one_of(
            st.lists(st.lists(st.floats(), min_size=3, max_size=3), min_size=2, max_size=2), JUNK
        ),
        "image_size": st.one_of(st.integers(1, 99), JUNK),
    },
)


@fuzz(40)
@given(SETTINGS)
def test_random_settings(options):
    with tempfile.TemporaryDirectory() as home:
        folder = make_folder(Path(home) / "images", (8, 8), (4, 2))
        for load in (lambda: load_data(folder, **options), lambda: from_pairs(options)):
            with sentence():
                data = load()
                if isinstance(data.train, Split):
                    images, _ = next(data.train.batches(4, seed=0, augment=True))
                    assert images.isfinite().all()


def from_pairs(options: dict[str, object]) -> DataSplits:
    return data_from(pairs([0, 1] * 4), pairs([0, 1]), **options)


@fuzz(40)
@given(
    st.lists(st.one_of(st.integers(-2, 4), st.integers(), JUNK), min_size=1, max_size=6),
    st.one_of(st.none(), JUNK),
    st.sampled_from([8, 70]),
)
def test_random_labels(labels, classes, size):
    image = torch.zeros(3, 8, 8)
    own = [(image, label) for label in labels]
    with sentence():
        data = data_from(own, own, classes=classes, image_size=size, device="cpu")
        assert int(data.test.labels.max()) < len(data.classes)
