"""Print docs/configuration.md, made from the source; with the argument `zh`, its Chinese twin."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mindformers_vit.tools.settings_list import page

if __name__ == "__main__":
    sys.stdout.write(page(*sys.argv[1:]))
