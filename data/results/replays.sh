#!/usr/bin/env bash
# Makes the rows of replays.csv and the networks of data/checkpoints anew, in data/runs: a day on two
# cores of a CPU. Stopped, it goes on where it was. At its end all of data/runs is published.
#   bash data/results/replays.sh [recipe:seed …]     without any, all that is stored
# CIFAR10_JPEG names the images (see images.py), by default data/cifar10-jpeg, which it makes.
set -euo pipefail
images="$(realpath -m "${CIFAR10_JPEG:-$(dirname "$0")/../cifar10-jpeg}")"
cd "$(dirname "$0")/../.."
python -c "import prunelab" 2>/dev/null || export PATH="$PWD/.venv/bin:$PATH"
[ -n "${CIFAR10_JPEG:-}" ] || [ -d "$images" ] || python data/results/images.py "$images"
[ -d "$images/test" ] || { echo "there are no images in $images/test" >&2; exit 1; }

rows=("$@")
[ $# -gt 0 ] || rows=(digits-quick:0 resnet20-pruned-b:0 vgg16-quarter-pruned-a:0
  vgg16:0 vgg16-pruned-a:0 vgg16-pruned-a-scratch:0 vgg16-chosen-a:0
  resnet56:0 resnet56-pruned-a:0 resnet56-pruned-b:0 resnet56-pruned-b-scratch:0 resnet56-chosen-b:0
  resnet110:0 resnet110-pruned-b:0 resnet110-pruned-b-scratch:0)

for row in "${rows[@]}"; do
  [[ $row == *:* ]] || row+=:0
  recipe="${row%:*}" seed="${row#*:}" epochs=16 settings=()
  [ "$recipe" != resnet20-pruned-b ] || epochs=28
  [ "$recipe" != digits-quick ] || { prunelab replay digits-quick --seed "$seed"; continue; }
  case "$recipe" in
  *-chosen-?) settings=(--weights "data/checkpoints/${recipe%-chosen-?}-cifar10-jpeg.safetensors") ;;
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
  [[ $recipe == *-chosen-? ]] || python data/results/checkpoints.py "$recipe" "$seed" "$images"
done
prunelab report --publish
