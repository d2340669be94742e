#!/usr/bin/env bash
# The plug-in for MindFormers, and this project's own tests on the MindSpore that MindFormers pins,
# in an environment of their own. Not part of scripts/test.sh.
#   bash scripts/test_mindformers.sh          the plug-in, the networks, their goldens, resuming
#   bash scripts/test_mindformers.sh --all    the plug-in and every test
# Further arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/environment.sh
. scripts/environment.sh

tests=(tests/engine/test_{resume,goldens}.py tests/models/test_{lvvit,smlpnet,vit,mae,beit}.py)
chosen=(-m "not fast")
if [ "${1:-}" = --all ]; then
    tests=(tests)
    chosen=()
    shift
fi
make_environment requirements-mindformers.txt .venv-mindformers
# MindSpore 2.9 sets this itself, but cannot be imported where onnx was before it without
export PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python
"$PYTHON" -m pytest -n 2 --dist loadfile --no-loadscope-reorder "${chosen[@]}" plugin_tests "${tests[@]}" "$@"
