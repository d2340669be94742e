#!/usr/bin/env bash
# Two "servers" on one machine, each a network namespace with one rank on CPU, which find each other
# by address as real servers do. Needs root and `ip netns`; removes what it has made.
#   bash scripts/two_hosts.sh CONFIG [flags of the run], for example
#   bash scripts/two_hosts.sh configs/mae/run_mae_vit_tiny_p8_48_cpu.yaml \
#       --train_dataset_dir quickstart/data/train --runner_config.max_steps=5
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
config=$1
shift
hosts=("mfv-a-$$" "mfv-b-$$")

# launch PLACE: the rank of that server, and only it
launch() {
    ip netns exec "${hosts[$1]}" bash "$here/run_distribute.sh" --wait \
        --master_addr 10.213.7.1 --master_port 8118 \
        none "$config" "[$1,$(($1 + 1))]" train 2 -- --device_target CPU "${flags[@]}"
}

trap 'for host in "${hosts[@]}"; do ip netns del "$host" 2>/dev/null || true; done' EXIT
flags=("$@")
for host in "${hosts[@]}"; do
    ip netns add "$host"
    ip -n "$host" link set lo up
done
ip link add "va$$" netns "${hosts[0]}" type veth peer name "vb$$" netns "${hosts[1]}"
ip -n "${hosts[0]}" address add 10.213.7.1/24 dev "va$$"
ip -n "${hosts[1]}" address add 10.213.7.2/24 dev "vb$$"
ip -n "${hosts[0]}" link set "va$$" up
ip -n "${hosts[1]}" link set "vb$$" up

launch 0 &
first=$!
code=0
launch 1 || { code=$?; kill "$first"; }
wait "$first" || code=$?
echo "two hosts: exit code $code"
exit "$code"
