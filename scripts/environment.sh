#!/usr/bin/env bash
# Makes .venv with the pinned dependencies and leaves the interpreter in $PYTHON. Sourced by
# quickstart.sh and test.sh, with the requirements file as argument. A complete environment is
# recognised by a stamp and used again.

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.12 python3.11 python3.10 python; do
        if [ -n "$candidate" ] && "$candidate" -c \
            'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    echo "error: Python 3.10, 3.11 or 3.12 is needed; none was found (set PYTHON=/path/to/it)" >&2
    return 1
}

make_environment() {
    local requirements=$1 base stamp
    stamp=$(cat requirements.txt "$requirements" | cksum | tr ' ' '-')
    if [ ! -f ".venv/.installed-$stamp" ]; then
        base=$(find_python)
        [ -x .venv/bin/python ] || "$base" -m venv .venv
        echo "installing $requirements into .venv (MindSpore is an 0.8 GB download)"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$requirements"
        touch ".venv/.installed-$stamp"
    fi
    PYTHON=$PWD/.venv/bin/python
}
