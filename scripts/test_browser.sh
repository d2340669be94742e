#!/usr/bin/env bash
# report.html and the demo as Chromium shows them, in an environment of their own, which holds gradio
# over that of scripts/test.sh. Not part of scripts/test.sh. It needs Debian's chromium, which it
# installs where CI is set, or CHROMIUM=/path/to/it. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/environment.sh
. scripts/environment.sh

if [ -n "${CI:-}" ] && [ -z "${CHROMIUM:-}" ] && ! command -v chromium >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends chromium
fi
make_environment requirements-test.txt
make_environment requirements-demo.txt .venv-demo .venv
REQUIRE_BROWSER=1 "$PYTHON" -m pytest browser_tests "$@"
