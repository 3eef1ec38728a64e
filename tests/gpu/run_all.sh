#!/usr/bin/env bash
# Measure the papers' steps, the benches and the bundled main job on a GPU.
#
#   tests/gpu/run_all.sh [FOLDER]
#
# It needs no network, no downloaded weights, and neither mlflow nor optuna. FOLDER/steps.json is
# written after every cell: repeat the command to go on where it stopped, and show the file with
# `harness report FOLDER/steps.json`.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder="${1:-${OUT:-runs/gpu}}"
python="${PYTHON:-python3}"
mkdir -p "$folder"

"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || {
    echo "There is no GPU that this PyTorch can use: nothing was measured." >&2
    exit 2
}

harness() { "$python" -P -m harness "$@"; }
export PYTHONPATH="$PWD"

for amp in off bf16; do
    for backbone in t5-base t5-large vse clip-vit-b32 clip-vil mdetr; do
        harness memory measure --backbone "$backbone" --device cuda --amp "$amp" \
            --save "$folder/steps.json"
    done
done
for name in experts low_bits; do
    if [ ! -s "$folder/$name.json" ]; then
        harness bench "$name" --json > "$folder/.part"
        mv "$folder/.part" "$folder/$name.json"
    fi
done
harness run --method mp_ismoe --task vqa --dataset scenes-vqa --device cuda --tracking-uri off \
    --output "$folder/runs"
