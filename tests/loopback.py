"""A web server on this machine for the tests of downloads: files with ranges, and its moods."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Site:
    """What is served, and what was asked for."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)  # path -> content
    cuts: list[int] = field(default_factory=list)  # bytes after which each next answer breaks off
    ranges: bool = True  # whether it can resume
    seen: list[tuple[str, str]] = field(default_factory=list)  # path, Range header


@contextlib.contextmanager
def serving() -> Iterator[Site]:
    site = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, site)

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(request: http.server.BaseHTTPRequestHandler, site: Site) -> None:
    wanted = request.headers.get("Range", "")
    site.seen.append((request.path, wanted))
    if request.path not in site.files:
        return request.send_error(404, "Not Found")
    content = site.files[request.path]
    tag = f'"{hashlib.sha256(content).hexdigest()}"'
    start = 0
    if wanted and site.ranges and request.headers.get("If-Range") == tag:
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        request.send_response(206)
        request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    else:
        request.send_response(200)
    request.send_header("Content-Length", str(len(content) - start))
    request.send_header("ETag", tag)
    request.end_headers()
    end = start + site.cuts.pop(0) if site.cuts else len(content)
    request.wfile.write(content[start:end])
    return None
