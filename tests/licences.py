"""The licences of what prunelab brings, by what each package says of itself.

`python tests/licences.py` writes docs/reference/dependencies.md; `make audit` calls it.
"""

import re
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

DOCS = Path(__file__).parents[1] / "docs" / "reference" / "dependencies.md"
EXTRAS = ("dask", "onnx", "timm")
HEAD = f"""# Dependencies

What `pip install prunelab[{",".join(EXTRAS)}]` brings on Linux, and under which licence, as each package's own metadata says. `make audit` writes this page anew, and asks PyPI whether a hole is known in any version that `binder/requirements.txt` pins. NVIDIA's libraries come with torch's CUDA build, and only with it.

| package | version | licence |
| --- | --- | --- |
"""  # noqa: E501


def find_all(name: str, extras: tuple[str, ...]) -> dict[str, Distribution]:
    """{normal name: distribution} of a package and of all that it needs here."""
    found: dict[str, Distribution] = {}
    waiting, seen = [(normal(name), extras)], set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        found[name] = distribution(name)
        for need in map(Requirement, found[name].requires or []):
            worlds = [{"extra": extra} for extra in ("", *extras)]
            if not need.marker or any(map(need.marker.evaluate, worlds)):
                waiting.append((normal(need.name), tuple(sorted(need.extras))))
    return found


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def read_licence(package: Distribution) -> str:
    """What its metadata says: an expression, else classifiers, else the first line of a text."""
    about = package.metadata
    if expression := about.get("License-Expression"):
        return str(expression)
    classified = [line for line in about.get_all("Classifier", []) if line.startswith("License ::")]
    names = [line.rsplit(" :: ", 1)[1] for line in classified]
    text = (about.get("License") or "").strip().splitlines()
    return ", ".join(names) or (text[0] if text else "not said")


def write() -> None:
    packages = find_all("prunelab", EXTRAS)
    del packages["prunelab"]
    rows = [f"| {n} | {p.version} | {read_licence(p)} |" for n, p in sorted(packages.items())]
    DOCS.write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
