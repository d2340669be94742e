"""Pictures from files, folders, URLs and arrays; whatever is wrong with one is said by name."""

import contextlib
import http.server
import io
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image

from mindformers_vit.errors import DataError
from mindformers_vit.tools import image_tools
from mindformers_vit.tools.image_tools import download, image_stem, list_images, load_image

pytestmark = pytest.mark.fast


def picture(width: int = 8, height: int = 6) -> Image.Image:
    values = np.arange(width * height * 3, dtype=np.uint8).reshape(height, width, 3)
    return Image.fromarray(values)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b""))


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = encoded(picture())
        path = self.path.split("?")[0]
        if path == "/missing.png":
            return self.send_error(404, "Not Found")
        if path.startswith("/to"):
            self.send_response(302)
            self.send_header("Location", {"/to_file": "file:///etc/hostname"}.get(path, "/a.png"))
            return self.end_headers()
        self.send_response(200)
        if path == "/endless":
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the reader leaves early
                for _ in range(64):
                    self.wfile.write(bytes(2**16))
            return None
        if path == "/text.png":
            body = b"<html>not here</html>"
        length = {"/huge": 10**9, "/cut.png": len(body) * 2}.get(path, len(body))
        self.send_header("Content-Length", str(length))
        self.end_headers()
        return self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "127.0.0.1")
        running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        running.server_close()
        thread.join()


def test_every_kind_of_source_gives_the_same_pixels(tmp_path, server):
    image = picture()
    image.save(tmp_path / "a.png")
    want = np.asarray(image)
    for source in (
        tmp_path / "a.png", str(tmp_path / "a.png"), image, want, f"{server}/a.png?x=1",
        f"{server}/to_other",
    ):  # fmt: skip
        loaded = load_image(source)
        assert loaded.mode == "RGB"
        assert np.array_equal(np.asarray(loaded), want)


def test_grey_and_alpha_become_rgb():
    assert load_image(np.zeros((4, 5), np.uint8)).size == (5, 4)
    assert load_image(np.zeros((4, 5, 1), np.uint8)).mode == "RGB"
    assert load_image(np.zeros((4, 5, 4), np.uint8)).mode == "RGB"
    sixteen = Image.fromarray(np.full((2, 2), 32768, np.uint16))
    assert abs(int(np.asarray(load_image(sixteen))[0, 0, 0]) - 128) <= 1


@pytest.mark.parametrize("array", [np.zeros((4, 5, 3)), np.zeros((3, 4, 5), np.uint8)])
def test_other_arrays_are_refused(array):
    with pytest.raises(DataError, match=r"image7: an array must be uint8 of shape \(H, W\)"):
        load_image(array, name="image7")


def test_other_objects_are_refused():
    with pytest.raises(DataError, match="not int"):
        load_image(3)


def test_damaged_files_are_named(tmp_path):
    whole = encoded(Image.effect_noise((64, 64), 50).convert("RGB"), "JPEG")
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.png").write_bytes(b"")
    for name, words in (
        ("cut.jpg", "damaged or truncated"),
        ("text.jpg", "not an image"),
        ("empty.png", "not an image"),
        ("gone.png", "no such file"),
    ):
        with pytest.raises(DataError, match=rf"{name}.*{words}"):
            load_image(tmp_path / name)
    with pytest.raises(DataError, match="is a folder"):
        load_image(tmp_path)


@pytest.mark.parametrize("size", [(60000, 60000), (10000, 10000)])
def test_decompression_bombs_are_refused(tmp_path, size):
    (tmp_path / "bomb.png").write_bytes(png_header(*size))
    with pytest.raises(DataError, match=r"bomb\.png.*too large"):
        load_image(tmp_path / "bomb.png")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/missing.png", "answered 404"),
        ("/huge", "larger than"),
        ("/cut.png", "connection ended after"),
        ("/to_file", "file"),
        ("/text.png", "not an image"),
    ],
)
def test_urls_that_fail_say_why(server, path, words):
    with pytest.raises(DataError, match=words) as caught:
        load_image(server + path)
    assert path in str(caught.value)


def test_download_without_a_length_stops_at_the_limit(server):
    with pytest.raises(DataError, match="larger than the 100000 bytes"):
        download(f"{server}/endless", max_bytes=100_000)


def test_download_has_a_deadline(server, monkeypatch):
    clock = iter([0.0, 1e6])
    monkeypatch.setattr(image_tools.time, "monotonic", lambda: next(clock))
    with pytest.raises(DataError, match="takes too long"):
        download(f"{server}/endless", timeout=5)


@pytest.mark.parametrize("url", ["ftp://h/a.png", "file:///etc/passwd", "data://x"])
def test_only_http_and_https(url):
    with pytest.raises(DataError, match="only http and https"):
        load_image(url)


def test_nobody_there():
    with pytest.raises(DataError, match="cannot be read"):
        load_image("http://127.0.0.1:9/a.png")
    with pytest.raises(DataError, match="cannot be read"):
        load_image("http:///a.png")


def test_list_images(tmp_path):
    for name in ("b/2.png", "b/10.PNG", "a.jpg", "b/.hidden.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = [p.relative_to(tmp_path).as_posix() for p in list_images(str(tmp_path))]
    assert found == ["a.jpg", "b/10.PNG", "b/2.png"]
    array = np.zeros((2, 2), np.uint8)
    mixed = list_images([tmp_path / "notes.txt", "https://h/x.png", array, tmp_path / "b"])
    assert mixed[:2] == [tmp_path / "notes.txt", "https://h/x.png"]
    assert mixed[2] is array and len(mixed) == 5
    (tmp_path / "none").mkdir()
    for sources, words in (
        ([tmp_path / "gone"], "no such file or folder"),
        (tmp_path / "none", "holds no image"),
        ([], "no image given"),
    ):
        with pytest.raises(DataError, match=words):
            list_images(sources)


def test_image_stem():
    assert image_stem("/a/b/cat.photo.jpg") == "cat.photo"
    assert image_stem("https://h/p/my%20dog.png?size=3") == "my_dog"
    assert image_stem("https://h/") == "image"
    assert image_stem("/a/..") == "image"
