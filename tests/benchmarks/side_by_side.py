"""Are several small trainings at once faster in total than one after the other?

    python tests/benchmarks/side_by_side.py --device cuda --network resnet56 --counts 1 2 4 8

Prints the images a second of 1, 2, 4 … processes. Each trains a network of its own on all images;
the clock runs from when all have done a first epoch.
"""

import argparse
import sys
from multiprocessing.synchronize import Barrier
from queue import Empty

import pandas as pd
import torch
from bench_training import noise
from torch.multiprocessing import get_context

from prunelab import TrainSettings, load_model, train

IMAGES = {"cpu": 512, "cuda": 45_000}


def learn(name: str, device: str, threads: int, ready: Barrier, times: object) -> None:
    torch.set_num_threads(threads)
    settings = TrainSettings(
        epochs=3, lr=0.01, milestones=(), channels_last=True, precision="bfloat16", compile=False
    )

    def wait(row: dict) -> None:
        if row["epoch"] == 1:
            ready.wait()

    history = train(load_model(name), noise(IMAGES[device], device), settings, on_epoch=wait)
    times.put(float(history["seconds"].iloc[1:].mean()))  # type: ignore[attr-defined]


if __name__ == "__main__":
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--network", default="resnet56")
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2])
    given = parser.parse_args()
    spawn, cores, rows = get_context("spawn"), torch.get_num_threads(), []
    for count in given.counts:
        ready, times = spawn.Barrier(count), spawn.Queue()
        arguments = (given.network, given.device, max(1, cores // count), ready, times)
        processes = [spawn.Process(target=learn, args=arguments) for _ in range(count)]
        for process in processes:
            process.start()
        seconds: list[float] = []
        while len(seconds) < count:
            if any(process.exitcode for process in processes):
                for process in processes:
                    process.kill()
                raise SystemExit(f"one of {count} processes ended with an error")
            try:
                seconds.append(times.get(timeout=1))
            except Empty:
                continue
        for process in processes:
            process.join()
        rate = sum(IMAGES[given.device] / s for s in seconds)
        row = {"processes": count, "epoch_s": max(seconds), "images_per_s": rate}
        rows.append(row)
        row["gain"] = rate / rows[0]["images_per_s"]
        print(rows[-1], file=sys.stderr, flush=True)
    print(pd.DataFrame(rows).round(3).to_string(index=False))
