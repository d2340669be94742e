#!/usr/bin/env bash
# The ranks of a run on this server, each a process:
#   bash run_distribute.sh RANK_TABLE_FILE CONFIG [0,8] RUN_MODE [RANK_SIZE] [-- flags of the run]
# Everything is in mindformers_vit/tools/launch.py, where it can be tested; --help tells the options.
# PYTHON=/path/to/python chooses the interpreter.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} exec "${PYTHON:-python}" -m mindformers_vit.tools.launch "$@"
