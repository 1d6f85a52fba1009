#!/usr/bin/env bash
# Makes the rows of replays.csv and the networks of data/checkpoints anew, in data/runs: a day on two
# cores of a CPU. Stopped, it goes on where it was. At its end all of data/runs is published.
#   bash data/results/replays.sh [recipe:seed …]     without any, all that is stored
# CIFAR10_JPEG names the images, if they are there already (see images.sh).
set -euo pipefail
. "$(dirname "$0")/images.sh"

rows=("$@")
[ $# -gt 0 ] || rows=(digits-quick:0 resnet20-pruned-b:0
  vgg16-quarter-pruned-a:0 vgg16-quarter-longer-a:0
  vgg16:0 vgg16-pruned-a:0 vgg16-pruned-a-scratch:0 vgg16-chosen-a:0
  resnet56:0 resnet56-pruned-a:0 resnet56-pruned-b:0 resnet56-pruned-b-scratch:0 resnet56-chosen-b:0
  resnet110:0 resnet110-pruned-a:0 resnet110-pruned-b:0 resnet110-pruned-b-scratch:0
  resnet110-larger-rate-b:0)

for row in "${rows[@]}"; do
  [[ $row == *:* ]] || row+=:0
  recipe="${row%:*}" seed="${row#*:}" epochs=16 settings=()
  case "$recipe" in resnet20-pruned-b) epochs=28 ;; *-longer-?) epochs=64 ;; esac
  [ "$recipe" != digits-quick ] || { prunelab replay digits-quick --seed "$seed"; continue; }
  case "$recipe" in
  *-chosen-? | *-larger-rate-?) # from the stored baseline
    settings=(--weights "data/checkpoints/${recipe%%-*}-cifar10-jpeg.safetensors") ;;
  *) settings=(--set baseline.epochs=$epochs --set baseline.precision=bfloat16
    --set baseline.channels_last=true) ;;
  esac
  case "$recipe" in
  *-scratch | vgg16 | resnet56 | resnet110) ;;
  *) settings+=(--set retrain.epochs=$((epochs / 4)) --set retrain.precision=bfloat16
    --set retrain.channels_last=true) ;;
  esac
  prunelab replay "$recipe" --seed "$seed" --data "$images" --set data.normalization=cifar10 \
    --set "data.label=CIFAR-10 (JPEG)" "${settings[@]}"
  case "$recipe" in
  *-chosen-? | *-larger-rate-? | resnet110-pruned-a) ;; # their networks are not stored
  *) python data/results/checkpoints.py "$recipe" "$seed" "$images" ;;
  esac
done
prunelab report --publish
