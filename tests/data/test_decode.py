"""Every kind of file that calls itself an image."""

import numpy as np
import pytest
from PIL import Image

from mindformers_vit.data.decode import load_rgb
from mindformers_vit.errors import DataError
from tests.data.helpers import picture

pytestmark = pytest.mark.fast


def test_rgb_is_itself(tmp_path):
    picture(0).save(tmp_path / "a.png")
    image = load_rgb(tmp_path / "a.png")
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), np.asarray(picture(0)))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1"])
def test_modes_are_converted_as_torchvision_does(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    source = picture(1).convert("RGB" if mode == "RGBA" else mode)
    if mode == "RGBA":
        source.putalpha(Image.new("L", source.size, 3))
    source.save(path)
    expected = np.asarray(Image.open(path).convert("RGB"))
    assert np.array_equal(np.asarray(load_rgb(path)), expected)


def test_palette_with_alpha_keeps_its_colours(tmp_path):
    image = picture(2).quantize(16)
    image.save(tmp_path / "a.png", transparency=bytes(range(16)))
    loaded = load_rgb(tmp_path / "a.png")
    assert np.array_equal(np.asarray(loaded), np.asarray(image.convert("RGB")))


def test_sixteen_bit_grey_is_scaled(tmp_path):
    values = np.array([[128, 250, 32896, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    pixels = np.asarray(load_rgb(tmp_path / "a.png"))
    assert pixels[0, :, 0].tolist() == [0, 1, 128, 255]
    assert pixels.shape == (1, 4, 3)


def test_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert load_rgb(tmp_path / "a.gif").getpixel((0, 0)) == (255, 0, 0)


def test_exif_orientation_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(3, 24, 20).save(tmp_path / "a.jpg", exif=exif)
    assert load_rgb(tmp_path / "a.jpg").size == (24, 20)


def test_what_cannot_be_read_is_named(tmp_path):
    picture(4, 200, 200).save(tmp_path / "cut.jpg")
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("hello")
    for name, reason in [
        ("cut.jpg", "truncated"),
        ("empty.jpg", "cannot identify image file"),
        ("text.jpg", "cannot identify image file"),
        ("none.jpg", "No such file"),
    ]:
        with pytest.raises(DataError, match=rf"{name}: cannot be read as an image: .*{reason}"):
            load_rgb(tmp_path / name)


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    picture(5, 100, 100).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match=r"a\.png: cannot be read as an image: .*exceeds limit"):
        load_rgb(tmp_path / "a.png")
