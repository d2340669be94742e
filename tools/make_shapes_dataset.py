"""Make the shapes data set: `python tools/make_shapes_dataset.py --output_dir D --seed 0`.

12 classes of textured shapes as JPEG files in ImageFolder layout (train, train_labelled, val); see
`mindformers_vit/tools/shapes.py`. Exit codes: 0 done or already there, 2 bad usage or folder.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mindformers_vit.errors import MindFormersViTError
from mindformers_vit.tools.shapes import ShapesSettings, make_shapes_dataset
from mindformers_vit.tools.shapes_label_maps import make_label_maps
from mindformers_vit.tools.shapes_picture import Difficulty


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    files, hard = ShapesSettings(), Difficulty()
    add = parser.add_argument
    add("--output_dir", type=Path, required=True, help="new, empty, or to be completed")
    add("--seed", type=int, default=files.seed, help="another seed, other pictures")
    add("--image_size", type=int, default=files.image_size, help="side in pixels")
    add("--train", type=int, default=files.train, help="pictures in train/, in all")
    add("--labelled_per_class", type=int, default=files.labelled_per_class)
    add("--val_per_class", type=int, default=files.val_per_class)
    add("--label_maps", action="store_true", help="token labels of train/, for LV-ViT, as well")
    add("--clutter", type=float, default=hard.clutter, help="0 plain .. 1 loud background")
    add("--noise", type=float, default=hard.noise, help="largest pixel noise, of a range of 1")
    add("--min_scale", type=float, default=hard.min_scale, help="smallest diameter / side")
    add("--max_scale", type=float, default=hard.max_scale, help="largest diameter / side")
    add("--contrast", type=float, default=hard.contrast, help="smallest distance of two colours")
    add("--rotation", type=float, default=hard.rotation, help="largest turn in degrees, 0..180")
    return parser


def main(argv: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given = vars(build_parser().parse_args(argv))
    output_dir = given.pop("output_dir")
    with_maps = given.pop("label_maps")
    hard = {name: given.pop(name) for name in Difficulty.__dataclass_fields__}
    try:
        settings = ShapesSettings(**given, difficulty=Difficulty(**hard))
        make_shapes_dataset(output_dir, settings)
        if with_maps:
            make_label_maps(output_dir, settings)
    except MindFormersViTError as error:
        logging.error("%s", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
