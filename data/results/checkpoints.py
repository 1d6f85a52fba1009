"""A run's networks into data/checkpoints, in float16: python checkpoints.py RECIPE SEED IMAGES."""

import sys

from prunelab import (
    load_data,
    load_model,
    load_pruned,
    load_recipe,
    runs_dir,
    save_pruned,
    save_weights,
)

END = "-cifar10-jpeg.safetensors"


def main(recipe: str, seed: str, images: str) -> None:
    if seed != "0":  # those that are stored are
        return
    run, model = runs_dir() / f"{recipe}-{seed}", load_recipe(recipe).model.name
    about = load_data(images, normalization="cifar10", label="CIFAR-10 (JPEG)").describe()
    folder = "data/checkpoints/" + "longer/" * ("-longer-" in recipe)
    # the quarter VGG-16 that the figures are of is of an earlier run
    if (run / "baseline.safetensors").exists() and recipe != "vgg16-quarter-pruned-a":
        network = load_model(model, weights=run)
        save_weights(f"{folder}{model}{END}", network, half=True, info=about)
    if (run / "pruned.safetensors").exists():
        small = load_pruned(run / "pruned.safetensors")
        name = recipe.replace("vgg16-quarter", model).replace("-longer-", "-pruned-")
        save_pruned(f"{folder}{name}{END}", small.half(), small.pruning_plan, info=about)


if __name__ == "__main__":
    main(*sys.argv[1:])
