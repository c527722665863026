#!/usr/bin/env bash
# Everything that is worth knowing of a machine with a GPU, in at most eight minutes:
#
#     bash benchmarks/on_device.sh [--device gpu|cpu] [--out FOLDER]
#
# A sample of the conformance cases on the device, layers and models against torch (eager and
# compiled) and flax.nnx in float32 and bfloat16 with the share of a copy's speed, and an example
# that trains. Each part has its own time; what fails or runs out is said at the end.
set -u
cd "$(dirname "$0")/.."
device=gpu out=benchmark-results/device
while [ $# -gt 0 ]; do
  case $1 in
    --device) device=$2 ;;
    --out) out=$2 ;;
    *) echo "on_device.sh: $1 is not --device or --out" >&2; exit 2 ;;
  esac
  shift 2
done
mkdir -p "$out"
[ "$device" = cpu ] && export JAX_PLATFORMS=cpu
# Reproducible and exact products: what is compared with torch is not TensorFloat-32.
export JAX_DEFAULT_MATMUL_PRECISION=highest PYTHONUNBUFFERED=1
python=${PYTHON:-python}
failed=()

part() { # name, seconds, command...
  local name=$1 seconds=$2 started=$SECONDS
  shift 2
  echo "== $name"
  if timeout "$seconds" "$@" >"$out/$name.log" 2>&1; then
    tail -n 6 "$out/$name.log"
  else
    failed+=("$name (exit $?, after $((SECONDS - started)) s)")
    tail -n 25 "$out/$name.log"
  fi
}

"$python" -c 'import jax; print(*jax.devices())' || exit 1
part conformance 120 "$python" -m nnspec.cli run --device "$device" --out "$out/conformance" --layer Linear --layer Conv2d --layer BatchNorm2d \
  --layer LayerNorm --layer MaxPool2d --layer LSTM --layer MultiheadAttention --layer CrossEntropyLoss
part layers 200 "$python" -m benchmarks run --device "$device" --quick --dtype float32,bfloat16 \
  --layer pooling --layer norm --layer convolution --layer attention --layer linear \
  --peer torch,flax --out "$out/layers"
part models 120 "$python" -m benchmarks run --device "$device" --quick --layer model \
  --peer torch,torch-compile --out "$out/models"
part training 60 "$python" examples/digits/train.py
if [ ${#failed[@]} -gt 0 ]; then
  printf 'not done: %s\n' "${failed[@]}"
  exit 1
fi
echo "done in $SECONDS s: $out/"
