#!/usr/bin/env bash
# Every check of the project, in an environment of its own, tests by two processes: compiling is what
# takes their time, and it uses one core. The order of the files is that of tests/conftest.py: xdist's
# own, most tests first, has the longest at the end. Arguments go to pytest, for example
#   bash scripts/test.sh -m fast
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/environment.sh
. scripts/environment.sh

make_environment requirements-test.txt
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -m mypy &  # takes 20 s of one core
types=$!
if command -v shellcheck >/dev/null; then
    shellcheck -x scripts/*.sh .ci/run
fi
"$PYTHON" -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
if ! wait "$types"; then
    echo "error: mypy, whose words are above the tests', found something" >&2
    exit 1
fi
