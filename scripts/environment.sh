#!/usr/bin/env bash
# Makes an environment with the pinned dependencies and leaves its interpreter in $PYTHON. Sourced
# by the other scripts; arguments are the requirements file, the folder (default: .venv) and perhaps
# the folder of a complete environment, whose packages this one has too. A complete environment is
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

site_packages() {
    "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
}

make_environment() {
    local requirements=$1 folder=${2:-.venv} under=${3:-} base stamp name
    local big="mindspore torch transformers"
    stamp=$(cat requirements.txt "$requirements" | cksum | tr ' ' '-')
    if [ ! -f "$folder/.installed-$stamp" ]; then
        base=$(find_python)
        [ -x "$folder/bin/python" ] || "$base" -m venv "$folder"
        if [ -n "$under" ]; then  # pip sees these packages as installed
            site_packages "$PWD/$under" > "$(site_packages "$folder")/under.pth"
            big=""  # they are compiled there
        fi
        echo "installing $requirements into $folder (MindSpore is an 0.8 GB download)"
        # pip compiles every module there is, on one core, which takes longer than all else; below are
        # compiled those that the big packages import, the others are by who imports them
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
            ${under:+--no-warn-conflicts} -r "$requirements"
        for name in $big; do
            env -u PYTHONDONTWRITEBYTECODE "$folder/bin/python" -c "import $name" >/dev/null 2>&1 || true
        done
        touch "$folder/.installed-$stamp"
    fi
    PYTHON=$PWD/$folder/bin/python
}
