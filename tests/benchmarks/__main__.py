"""`make bench`: one table of what takes how long, ours beside what one would otherwise use."""

import argparse
import warnings

import bench_lab
import bench_pruning
import bench_sensitivity
import bench_training
import pandas as pd

BENCHES = {
    "lab": bench_lab,
    "pruning": bench_pruning,
    "sensitivity": bench_sensitivity,
    "training": bench_training,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    names = [[], *BENCHES]
    parser.add_argument("benches", nargs="*", choices=names, default=[], help="all by default")
    parser.add_argument("--pairs", type=int, default=5, help="how often ours and theirs take turns")
    parser.add_argument("--device", default="cpu", help="cpu or cuda, for what runs networks")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    pd.set_option("display.width", 200, "display.max_colwidth", 80)
    rows = []
    for name in given.benches or BENCHES:
        for row in BENCHES[name].rows(given.pairs, given.device):
            # as they come: the whole takes a while
            print(f"{row['ratio']:.2f} ×  {row['what']}", flush=True)
            rows.append(row)
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3f}".format))
