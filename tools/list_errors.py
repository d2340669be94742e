"""Print docs/errors.md, made from the source."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mindformers_vit.tools.error_list import page

if __name__ == "__main__":
    sys.stdout.write(page())
