"""`plan --config FILE --servers N`: what a run on so many cards will need; nothing is run."""

from __future__ import annotations

import argparse

from mindformers_vit.cli import read_command_line
from mindformers_vit.config.strict import validate
from mindformers_vit.engine.forecast import Cluster, describe
from mindformers_vit.engine.plan import make_plan


def main(argv: list[str]) -> int:
    """Print the forecast; every flag of a run may be given besides."""
    parser = argparse.ArgumentParser(
        "mindformers-vit plan", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--servers", type=int, default=1)
    parser.add_argument("--devices_per_server", type=int, default=8)
    parser.add_argument("--images", type=int, help="of the training set; default: ImageNet-1K's")
    parser.add_argument("--samples_per_second", type=float, help="of one card, measured")
    given, rest = parser.parse_known_args(argv)
    cluster = validate(Cluster, vars(given))
    values, _ = read_command_line(rest)
    print(describe(make_plan({**values, "use_parallel": False}), cluster))  # no rank, as yet
    return 0
