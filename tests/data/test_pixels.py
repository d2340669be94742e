"""Compiled resizing and normalising give the bits of Pillow and numpy, or leave it to them."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from PIL.Image import Resampling

from mindformers_vit.data import pixels
from mindformers_vit.data.rng import sample_rng
from mindformers_vit.data.transforms import build_transforms
from mindformers_vit.kernels.library import compiled
from tests.data.helpers import TRAIN, picture

pytestmark = pytest.mark.fast
HOW = [Resampling.BILINEAR, Resampling.BICUBIC]


def noise(width, height, seed=0, values=256):
    """Random pixels; of two values, the sums leave 0..255."""
    array = np.random.default_rng(seed).integers(0, values, (height, width, 3))
    return Image.fromarray((array * (255 // (values - 1))).astype(np.uint8))


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("seed", range(40))
def test_resizing_has_the_bits_of_pillow(seed, how):
    rng = np.random.default_rng(seed)
    width, height = (int(n) for n in rng.integers(20, 400, 2))
    image = noise(width, height, seed, values=[256, 2][seed % 2])
    left, top = int(rng.integers(width - 12)), int(rng.integers(height))
    box = (left, top, int(rng.integers(left, width)) + 1, int(rng.integers(top, height)) + 1)
    size = (224, 224) if seed % 3 else tuple(int(n) for n in rng.integers(1, 300, 2))
    found = pixels.resize(image, box, size, how)
    assert found.mode == "RGB" and found.size == size
    assert found.tobytes() == image.crop(box).resize(size, how).tobytes()


def test_it_is_the_compiled_code_that_does_it():
    assert (pixels._library() is None) == (compiled() is None)
    if compiled() is not None:
        done = pixels._resize(pixels._library(), noise(80, 60), (0, 0, 80, 60), (8, 8), HOW[0])
        assert done is not None


@pytest.mark.parametrize(
    ("image", "box", "how"),
    [
        (noise(90, 60), (10, 5, 80, 50), Resampling.LANCZOS),
        (noise(90, 60), (-5, -5, 100, 70), Resampling.BICUBIC),  # black around it
        (noise(6, 60), (4, 0, 6, 60), Resampling.BICUBIC),  # narrower than a filter
        (noise(20, 700), (3, 0, 6, 700), Resampling.BICUBIC),  # Pillow changes the order of passes
        (noise(90, 60).convert("L"), (10, 5, 80, 50), Resampling.BICUBIC),
        (Image.new("RGB", (3000, 2000), "teal"), (1, 1, 3000, 2000), Resampling.BICUBIC),
    ],
)
def test_what_it_does_not_know_is_left_to_pillow(image, box, how):
    if (library := pixels._library()) is not None:
        assert pixels._resize(library, image, box, (32, 24), how) is None
    found = pixels.resize(image, box, (32, 24), how)
    assert found.tobytes() == image.crop(box).resize((32, 24), how).tobytes()


def test_another_pillow_is_noticed():
    def other(image, box, size, how):
        return image.crop(box).resize(size, Resampling.HAMMING)

    assert not pixels._agrees(other)
    assert pixels._agrees(lambda image, box, size, how: image.crop(box).resize(size, how))


@pytest.mark.parametrize("contiguous", [True, False])
def test_normalising_has_the_bits_of_the_steps(contiguous):
    compose, image = build_transforms(TRAIN), picture(3, 300, 200)
    wanted = compose(image, sample_rng(0, 0, 0, "augment"))
    out = np.zeros((6, *wanted.shape[1:]), np.float32)[:: 1 if contiguous else 2][:3]
    compose.into(image, sample_rng(0, 0, 0, "augment"), out)
    assert out.tobytes() == wanted.tobytes()


def test_without_kernels_the_pixels_are_the_same():
    """In a process of its own, where the variable says so."""
    code = (
        "from tests.data.test_pixels import *\n"
        "assert pixels._library() is None\n"
        "found = build_transforms(TRAIN)(noise(300, 200), sample_rng(0, 0, 0, 'augment'))\n"
        "print(hashlib.sha256(found.tobytes()).hexdigest())"
    )
    environment = {**os.environ, "MINDFORMERS_VIT_KERNELS": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    here = build_transforms(TRAIN)(noise(300, 200), sample_rng(0, 0, 0, "augment"))
    assert done.stdout.strip() == hashlib.sha256(here.tobytes()).hexdigest()
