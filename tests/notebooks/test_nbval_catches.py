"""nbval is no formality: a library that counts or chooses wrongly does not pass the lessons."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# {what is broken: (file, what is there, what it becomes, the lesson that must notice)}
BREAKS = {
    "rounding": ("pruning/selection.py", '"ceil": math.ceil', '"ceil": math.floor', "04*"),
    "cost formula": ("pruning/cost.py", "weights * positions", "2 * weights * positions", "02*"),
    "greedy": ("pruning/selection.py", 'if strategy == "greedy" and', "if False and", "04*"),
}


@pytest.mark.slow
@pytest.mark.parametrize("broken", BREAKS)
def test_nbval_catches(broken, tmp_path):
    file, whole, wrong, lesson = BREAKS[broken]
    shutil.copytree(ROOT / "prunelab", tmp_path / "prunelab")
    for name in ("data", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    (notebook,) = (ROOT / "notebooks").glob(f"{lesson}.ipynb")
    shutil.copy(notebook, tmp_path)
    path = tmp_path / "prunelab" / file
    assert path.read_text().count(whole) == 1
    path.write_text(path.read_text().replace(whole, wrong))
    command = [sys.executable, "-m", "pytest", "-q", "--nbval", "--nbval-current-env"]
    command += ["-x", "-p", "no:cacheprovider", notebook.name]
    here = {**os.environ, "PYTHONPATH": str(tmp_path), "PRUNELAB_RUNS": str(tmp_path / "runs")}
    done = subprocess.run(command, cwd=tmp_path, env=here, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout[-2000:]
    assert "Cell execution failed" not in done.stdout  # a number is another, that is all
    assert "Cell outputs differ" in done.stdout
