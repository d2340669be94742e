"""`verify-data DIR`: read every image of a data set, the evening before."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from tqdm import tqdm

from mindformers_vit.data.decode import load_rgb
from mindformers_vit.data.sources import ImageSource, open_source
from mindformers_vit.errors import DataError

_AHEAD = 4096  # images given to the threads at a time


def main(argv: list[str]) -> int:
    """0: every image can be read; 1: some cannot, and are listed; DataError: no data set."""
    parser = argparse.ArgumentParser("mindformers-vit verify-data", description=__doc__)
    parser.add_argument("directory", help="class folders, or any folder with --unlabelled")
    parser.add_argument("--label_file", help="of a flat folder")
    parser.add_argument("--unlabelled", action="store_true", help="every image below the folder")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, metavar="N")
    given = parser.parse_args(argv)
    source = open_source(given.directory, given.label_file, labelled=not given.unlabelled)
    bad = list(bad_images(source, max(1, given.threads)))
    for reason in bad:
        print(f"BAD {one_line(reason)}")
    classes = ""
    if source.labels is not None:
        names = source.classes or set(source.labels.tolist())
        classes = f" in {len(names)} classes"
    print(f"{len(source)} images{classes}, {len(bad)} cannot be read")
    return 1 if bad else 0


def one_line(text: str) -> str:
    """`text` with whatever could break a line, or a terminal, spelled out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def bad_images(source: ImageSource, threads: int) -> Iterator[str]:
    """Why each image that cannot be read cannot be, in the order of the source."""
    paths = iter(source.paths)
    with (
        ThreadPoolExecutor(threads) as pool,
        tqdm(total=len(source), unit="image", delay=1, dynamic_ncols=True) as bar,
    ):
        while part := list(islice(paths, _AHEAD)):
            for reason in pool.map(_problem, part):
                bar.update(1)
                if reason:
                    yield reason


def _problem(path: str) -> str | None:
    try:
        load_rgb(path)
    except DataError as error:
        return str(error)
    return None
