# Sourced by the scripts beside it: goes to the project's root, and puts into `images` the folder of
# CIFAR-10 as JPEG files. CIFAR10_JPEG names it; without that, data/cifar10-jpeg, which is made.
images="$(realpath -m "${CIFAR10_JPEG:-$(dirname "$0")/../cifar10-jpeg}")"
cd "$(dirname "$0")/../.."
python -c "import prunelab" 2>/dev/null || export PATH="$PWD/.venv/bin:$PATH"
[ -n "${CIFAR10_JPEG:-}" ] || [ -d "$images" ] || python data/results/images.py "$images"
[ -d "$images/test" ] || { echo "there are no images in $images/test" >&2; exit 1; }
