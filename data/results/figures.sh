#!/usr/bin/env bash
# Makes the frames in data/results/figures anew, of the networks in data/checkpoints: two hours on two
# cores of a CPU.
#   bash data/results/figures.sh
# CIFAR10_JPEG names the images, if they are there already (see images.sh).
set -euo pipefail
. "$(dirname "$0")/images.sh"

# draw NOTEBOOK NETWORK PARAMETERS…
draw() {
  local name=model; [ "$1" != 04_across_layers ] || name=plain
  papermill "notebooks/$1.ipynb" "data/runs/$1-$2.ipynb" --cwd . -p $name "$2" \
    -p weights "data/checkpoints/$2-cifar10-jpeg.safetensors" -p data "$images" \
    -p label "CIFAR-10 (JPEG)" -p normalization cifar10 -p out data/results/figures \
    -p interactive False "${@:3}"
}
mkdir -p data/runs

# sensitivity.csv, budgets.csv: all 5,000 validation images
for network in vgg16 vgg16_x0_25 resnet20 resnet56; do draw 03_sensitivity $network; done
draw 03_sensitivity vgg16_x0_25 -p label "CIFAR-10 (JPEG), 64 epochs" \
  -p weights data/checkpoints/longer/vgg16_x0_25-cifar10-jpeg.safetensors
# strategies.csv
for network in vgg16 vgg16_x0_25; do draw 04_across_layers $network; done
draw 04_across_layers vgg16 -y "{ratios: [0.3, 0.5, 0.7, 0.9], epochs: 1, precision: bfloat16}"
# orders.csv, criteria.csv
draw 06_which_criterion vgg16 -p images 1024 -y "{ratios: [0.1, 0.3, 0.5, 0.7, 0.9]}"
draw 06_which_criterion vgg16_x0_25 -p images 0 -y "{ratios: [0.1, 0.3, 0.5, 0.7, 0.9]}"
# retrained.csv
once="retrain: {epochs: 1, rates: [0.001], precision: bfloat16, channels_last: true}"
once+=", scratch: {epochs: 1, lr: 0.05}, alone: {layers: [], ratios: [0.5, 0.9], epochs: 1}"
for network in vgg16 vgg16_x0_25; do draw 05_retraining $network -p batch_size 128 -y "{$once}"; done
