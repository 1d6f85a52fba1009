"""What is packed: the wheel, the source it can be built from, and what they ask for."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest
from licences import DOCS, EXTRAS, normal
from packaging.requirements import Requirement

from prunelab import __version__

ROOT = Path(__file__).parents[1]
LARGEST = 2**21  # bytes of a file that an installed package carries
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "binder" / "requirements.txt").read_text()


def build(target: str, source: Path, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory"]
    done = subprocess.run([*command, folder], cwd=source, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return next(folder.glob("prunelab-*"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


def list_files(*folders: str) -> set[str]:
    """The files that git holds or would take."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *folders]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in done.stdout.splitlines() if (ROOT / name).exists()}


def test_the_wheel_carries_the_package_and_what_it_ships(wheel):
    with zipfile.ZipFile(wheel) as packed:
        sizes = {entry.filename: entry.file_size for entry in packed.infolist()}
        carried = {name for name in sizes if not name.startswith("prunelab-")}
        ours = list_files("prunelab")
        shipped = {name for name in carried if name.startswith("prunelab/shipped/")}
        assert ours <= carried
        assert {Path(name).suffix for name in carried} <= {Path(n).suffix for n in ours} | {
            ".ipynb",
            ".csv",
            ".safetensors",
        }
        for name in shipped:
            path = ROOT / name.removeprefix("prunelab/shipped/")
            assert packed.read(name) == path.read_bytes()
        sources = {name.removeprefix("prunelab/shipped/") for name in shipped}
        networks = list_files("data/checkpoints")
        small = {name for name in networks if (ROOT / name).stat().st_size < LARGEST}
        assert sources & networks == small
        assert sources >= list_files("data/paper")
        assert max(sizes.values()) < LARGEST
        about = f"prunelab-{__version__}.dist-info"
        assert f"{about}/licenses/LICENSE" in sizes
        assert packed.read(f"{about}/entry_points.txt").decode().split("\n")[:2] == [
            "[console_scripts]",
            "prunelab = prunelab.cli:main",
        ]
        metadata = HeaderParser().parsestr(packed.read(f"{about}/METADATA").decode())
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Requires-Python"] == PROJECT["requires-python"]


def test_the_source_holds_no_caches_and_builds_the_same_wheel(wheel, tmp_path):
    with tarfile.open(build("sdist", ROOT, tmp_path)) as packed:
        packed.extractall(tmp_path, filter="data")
    source = next(path for path in tmp_path.iterdir() if path.is_dir())
    top = {path.name for path in source.iterdir()} - {"PKG-INFO"}
    assert max(path.stat().st_size for path in source.rglob("*")) < 2 * LARGEST
    assert top <= {name.split("/")[0] for name in list_files()} - {".ci"}
    (tmp_path / "again").mkdir()
    assert build("wheel", source, tmp_path / "again").read_bytes() == wheel.read_bytes()


def test_every_dependency_has_its_licence_listed_at_its_pinned_version():
    listed = set(re.findall(r"^\| (\S+) \| (\d\S*) \| \S", DOCS.read_text(), re.MULTILINE))
    pinned = set(re.findall(r"^(\S+)==(\S+)", LOCK, re.MULTILINE))
    needed = list(PROJECT["dependencies"])
    for extra in EXTRAS:
        needed += PROJECT["optional-dependencies"][extra]
    assert {normal(Requirement(text).name) for text in needed} <= set(dict(listed)), "make audit"
    assert listed <= pinned, "make audit"


def test_binder_s_torch_is_the_package_s():
    """environment.yml brings torch and torchvision by conda, in the ranges of pyproject.toml."""
    environment = (ROOT / "binder" / "environment.yml").read_text()
    asked = dict(re.findall(r"- (pytorch-cpu|torchvision)(\S+)", environment))
    needed = {Requirement(text).name: text for text in PROJECT["dependencies"]}
    assert f"torch{asked['pytorch-cpu']}" == needed["torch"]
    assert f"torchvision{asked['torchvision']}" == needed["torchvision"]
