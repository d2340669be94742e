"""Label maps of LV-ViT's authors for training here: `.pt` files become `.npy` files.

    python tools/convert_label_maps.py --input_dir label_top5_train_nfnet --output_dir D

Run again, it goes on where it was. Exit codes: 0 done, 2 bad usage or file.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mindformers_vit.errors import MindFormersViTError
from mindformers_vit.tools.label_map_files import convert_label_maps


def main(argv: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input_dir", type=Path, required=True, help="<input_dir>/<class>/*.pt")
    parser.add_argument("--output_dir", type=Path, required=True, help="the same, as .npy")
    given = parser.parse_args(argv)
    try:
        convert_label_maps(given.input_dir, given.output_dir)
    except MindFormersViTError as error:
        logging.error("%s", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
