"""Preprocessing equals torchvision's on Pillow images, and travels through a yaml."""

import numpy as np
import pytest
from PIL import Image

from mindformers_vit.errors import ConfigError, DataError
from mindformers_vit.models.mae.mae_config import ViTMAEConfig
from mindformers_vit.models.mae.mae_processor import ViTMAEProcessor
from mindformers_vit.models.vit.vit_config import ViTConfig
from mindformers_vit.models.vit.vit_processor import ViTImageProcessor, ViTProcessor
from tests.models.conftest import GOLDENS, golden

pytestmark = pytest.mark.fast

FOLDER = GOLDENS / "preprocess"
RECIPES = {
    "imagenet_256_224": {},
    "imagenet_248_224": {"resize": 248},
    "half_256_224": {"mean": [0.5] * 3, "std": [0.5] * 3},
}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("file", ["image0.jpg", "image1.png"])
def test_golden(file, recipe):
    case = golden("preprocess")
    processor = ViTProcessor.for_network(ViTConfig(), RECIPES[recipe])
    pixels = processor(FOLDER / file)
    assert pixels.shape == (1, 3, 224, 224)
    assert pixels.dtype == np.float32
    key = f"{file.partition('.')[0]}/{recipe}"
    np.testing.assert_allclose(pixels[0, :, ::4, ::4], case[key], rtol=0, atol=1e-5)
    mean_std = [pixels.mean(), pixels.std()]
    np.testing.assert_allclose(mean_std, case[f"{key}/mean_std"], atol=1e-4)


def test_any_kind_of_picture():
    processor = ViTMAEProcessor()
    path = FOLDER / "image0.jpg"
    with Image.open(path) as image:
        array = np.asarray(image.convert("RGB"))
        kinds = processor([path, str(path), image, array])
    assert kinds.shape == (4, 3, 224, 224)
    for other in kinds[1:]:
        np.testing.assert_array_equal(other, kinds[0])
    np.testing.assert_array_equal(processor(np.stack([array, array])), kinds[:2])
    with pytest.raises(DataError, match="no images given"):
        processor([])
    with pytest.raises(DataError, match=r"missing.jpg"):
        processor("missing.jpg")


def test_the_border_that_is_cut_off():
    sizes = {64: 73, 224: 256, 384: 384}
    for size, resize in sizes.items():
        assert ViTImageProcessor(size=size).resize_to == resize
    assert ViTImageProcessor(size=(112, 224)).resize_to == (128, 256)
    assert ViTImageProcessor(size=224, resize=300).resize_to == 300


def test_round_trip_and_refusals():
    processor = ViTMAEProcessor.for_network(ViTMAEConfig(image_size=64, patch_size=8))
    section = processor.to_dict()
    assert section["type"] == "ViTMAEProcessor"
    assert section["image_processor"]["size"] == 64
    assert ViTMAEProcessor.from_dict(section) == processor
    with pytest.raises(ConfigError, match="'ViTMAEProcessor' given, allowed: 'ViTProcessor'"):
        ViTProcessor.from_dict(section)
    with pytest.raises(ConfigError, match=r"image_processor.size: 192 given, but the network"):
        ViTMAEProcessor.for_network(ViTMAEConfig(), {"size": 192})
    with pytest.raises(ConfigError, match=r"a.b.type: 'X' given, allowed: 'ViTImageProcessor'"):
        ViTProcessor.for_network(ViTConfig(), {"type": "X"}, "a.b")
    with pytest.raises(ConfigError, match=r"a.b.sise: unknown key \(did you mean 'size'"):
        ViTProcessor.for_network(ViTConfig(), {"sise": 3}, "a.b")
    with pytest.raises(ConfigError, match="std: must be greater than 0"):
        ViTProcessor.for_network(ViTConfig(), {"std": [0, 1, 1]})
