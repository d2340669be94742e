#!/usr/bin/env bash
# The plug-in for MindFormers, and this project's own tests on the MindSpore that MindFormers pins,
# in an environment of their own. Not part of scripts/test.sh.
#   bash scripts/test_mindformers.sh          the plug-in and the core: models, engine, checkpoints
#   bash scripts/test_mindformers.sh --all    the plug-in and every test
# Further arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/environment.sh
. scripts/environment.sh

tests=(tests/models tests/checkpoint tests/optim tests/engine tests/reliability tests/test_*.py)
if [ "${1:-}" = --all ]; then
    tests=(tests)
    shift
fi
make_environment requirements-mindformers.txt .venv-mindformers
"$PYTHON" -m pytest -n 2 --dist loadfile plugin_tests "${tests[@]}" "$@"
