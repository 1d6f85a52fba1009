"""What a sweep adds to plain papermill runs, and what points cost that train nothing.

python tests/benchmarks/sweep.py            the same replays by papermill and by a sweep
python tests/benchmarks/sweep.py --tiny 1000  points without work, on two workers of Dask
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from prunelab import load_sweep, run_sweep
from prunelab.experiments.sweep import on_dask
from prunelab.experiments.sweep.board import open_board

ROOT = Path(__file__).parents[2]
SHORT = {"baseline.epochs": 2, "retrain.epochs": 1, "scratch": None, "continued": False}


def make_sweep(folder: Path, **content: object):
    path = folder / "bench.yaml"
    path.write_text(yaml.safe_dump({"recipes": "digits-quick", **content}))
    return load_sweep(path)


def compare(points: int) -> None:
    folder = Path(tempfile.mkdtemp())
    sweep = make_sweep(folder, seeds=list(range(points)), set=SHORT)
    changes = [f"{key}={json.dumps(value)}" for key, value in SHORT.items()]
    began = time.perf_counter()
    for seed in range(points):
        given = {"recipe": "digits-quick", "seed": seed, "changes": changes}
        given["out"] = str(folder / "plain")
        command = [sys.executable, "-m", "papermill", str(ROOT / "notebooks" / "replay.ipynb")]
        command += [str(folder / f"{seed}.ipynb"), "-k", "python3", "--no-progress-bar"]
        subprocess.run([*command, "-y", yaml.safe_dump(given)], check=True, capture_output=True)
    plain = time.perf_counter() - began
    began = time.perf_counter()
    command = [sys.executable, "-m", "prunelab", "sweep", str(folder / "bench.yaml")]
    command += ["--workers", "1", "--out", str(folder / "swept")]
    subprocess.run(command, check=True, capture_output=True)
    swept = time.perf_counter() - began
    print(f"{points} points of {sweep.name}: papermill {plain:.1f} s, sweep {swept:.1f} s")
    print(f"a point: {(swept - plain) / points:+.2f} s, {(swept / plain - 1):+.1%}")


def run_tiny(points: int) -> None:
    sys.path.insert(0, str(ROOT / "tests"))
    from fake_points import run_fake

    folder = Path(tempfile.mkdtemp())
    os.environ["PRUNELAB_FAKE"] = str(folder)
    on_dask.run_point = run_fake
    rates = [0.1 / (i + 1) for i in range(points)]
    sweep = make_sweep(folder, grid={"retrain.lr": rates})
    began = time.perf_counter()
    open_board(sweep, folder)
    opened = time.perf_counter() - began
    began = time.perf_counter()
    run_sweep(sweep, out=folder, workers=2)
    ran = time.perf_counter() - began
    began = time.perf_counter()
    run_sweep(sweep, out=folder, workers=2)
    again = time.perf_counter() - began
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{points + 1} points: a dry run {opened:.1f} s; run {ran:.1f} s, "
        f"{1000 * ran / points:.1f} ms a point; again {again:.1f} s; client at most {most:.0f} MiB"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=4)
    parser.add_argument("--tiny", type=int, default=0)
    given = parser.parse_args()
    run_tiny(given.tiny) if given.tiny else compare(given.points)
