#!/usr/bin/env bash
# A masked autoencoder in a few minutes on two CPU cores: data, pretraining without labels,
# fine-tuning with few labels, the same network from scratch, evaluation, pictures, a table.
# Everything goes to ./quickstart; what is already there is used again, and a run that was cut goes on
# from its checkpoint. SEED=1 for another seed.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/environment.sh
. scripts/environment.sh

seed=${SEED:-0}
out=quickstart
[ "$seed" = 0 ] || out=quickstart/seed_$seed
mae=configs/mae/run_mae_vit_tiny_p8_48_cpu.yaml
vit=configs/vit/run_vit_tiny_p8_48_cpu.yaml

# step NAME TITLE RESULT COMMAND...: print a command and run it, unless its result is there
step() {
    local name=$1 title=$2 result=$3 began=$SECONDS again=$3
    [ "${result##*/}" = finished.json ] && again=${result%/*}
    shift 3
    printf '\n== %s\n$ %s\n' "$title" "$*"
    if [ -e "$result" ]; then
        echo "done before: $result is there (remove $again to run this again)"
        return
    fi
    "$@"
    echo "$((SECONDS - began))" > "$out/$name.seconds"
}

# beside NAME ...: a step that goes on beside others; `shown` waits and prints what they said, in order
beside() {
    set -m  # a process group of its own, which `stop` can end
    step "$@" < /dev/null > "$out/$1.said" 2>&1 &
    set +m
    others+=("$1 $!")
}

shown() {
    local other code=0
    for other in "${others[@]}"; do
        wait "${other#* }" || code=$?
        cat "$out/${other% *}.said"
    done
    others=()
    [ "$code" = 0 ] || echo "error: a step has failed, see above" >&2
    return "$code"
}

stop() {
    local other
    for other in ${others[@]+"${others[@]}"}; do
        kill -- "-${other#* }" 2> /dev/null || true
    done
}

trap stop EXIT
others=()
make_environment requirements.txt
PATH=$(dirname "$PYTHON"):$PATH
echo "By hand, the commands below need:  source .venv/bin/activate"

step data "1/8 make the data set" "$out/data.seconds" \
    python tools/make_shapes_dataset.py --output_dir "$out/data" --seed "$seed"
step pretrain "2/8 pretrain on pictures without labels" "$out/pretrain/finished.json" \
    python run_mindformer.py --config "$mae" --run_mode train --seed "$seed" \
    --train_dataset_dir "$out/data/train" --eval_dataset_dir "$out/data/val" \
    --output_dir "$out/pretrain"
printf '\n== 3/8 and 4/8 go on at once; what 4/8 says is shown after 3/8\n'
beside scratch "4/8 the same network and labels, no pretraining" "$out/scratch/finished.json" \
    python run_mindformer.py --config "$vit" --run_mode train --seed "$seed" --layer_scale False \
    --train_dataset_dir "$out/data/train_labelled" --output_dir "$out/scratch"
step finetune "3/8 fine-tune with few labels" "$out/finetune/finished.json" \
    python run_mindformer.py --config "$vit" --run_mode finetune --seed "$seed" \
    --load_checkpoint "$out/pretrain" \
    --train_dataset_dir "$out/data/train_labelled" --output_dir "$out/finetune"
shown
for run in finetune scratch; do
    beside "eval_$run" "5/8 evaluate: $run" "$out/$run/eval_result.json" \
        python run_mindformer.py --config "$vit" --run_mode eval \
        --load_checkpoint "$out/$run" --eval_dataset_dir "$out/data/val" --output_dir "$out/$run"
done
beside paint "6/8 paint what is hidden in held-out pictures" \
    "$out/pretrain/masked_image_modeling_result.txt" \
    python run_mindformer.py --config "$mae" --run_mode predict --load_checkpoint "$out/pretrain" \
    --predict_data "$out"/data/val/*/*_000000.jpg --output_dir "$out/pretrain"
beside name "7/8 name held-out pictures" "$out/finetune/image_classification_result.txt" \
    python run_mindformer.py --config "$vit" --run_mode predict --load_checkpoint "$out/finetune" \
    --predict_data "$out"/data/val/*/*_000000.jpg --output_dir "$out/finetune"
printf '\n== 5/8 to 7/8 go on at once, on all cores\n'
shown
printf '\n== 8/8 the table\n$ python tools/quickstart_table.py %s\n' "$out"
python tools/quickstart_table.py "$out"
