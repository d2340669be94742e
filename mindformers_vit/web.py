"""Reading http and https URLs, and nothing else, also after a redirect. Certificates are checked,
the environment's proxies are used.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from mindformers_vit.errors import DataError

_CHUNK = 2**16


class WebError(DataError):
    """A URL cannot be read; `permanent` if asking again is of no use."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


def open_url(url: str, *, timeout: float, headers: Mapping[str, str] | None = None) -> Any:
    """The answer to a GET, to be closed by the caller.

    Raises:
        WebError: another scheme, no answer within `timeout` seconds, or an error as the answer.
    """
    if urlsplit(url).scheme.lower() not in ("http", "https"):
        raise WebError(f"'{url}': only http and https URLs are read", permanent=True)
    named = {"User-Agent": "mindformers_vit", **(headers or {})}
    try:
        return _opener().open(urllib.request.Request(url, headers=named), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        text = f"'{url}': the server answered {error.code} {error.reason}"
        raise WebError(text, permanent=error.code < 500) from error
    except urllib.error.URLError as error:
        raise WebError(f"'{url}' cannot be read: {error.reason}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _unreadable(url, error) from error


def read_chunks(response: Any, url: str) -> Iterator[bytes]:
    """What the answer holds, piece by piece.

    Raises:
        WebError: the connection ended early, or nothing came in the time that `open_url` was given.
    """
    declared, size = content_length(response), 0
    while part := _read(response, url):
        size += len(part)
        yield part
    if declared is not None and size < declared:
        raise WebError(f"'{url}': the connection ended after {size} of {declared} bytes")


def content_length(response: Any) -> int | None:
    """The bytes that the server says it sends, None if it does not."""
    declared = response.headers.get("Content-Length", "")
    return int(declared) if declared.isdigit() else None


def _read(response: Any, url: str) -> bytes:
    try:
        return bytes(response.read1(_CHUNK))
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _unreadable(url, error) from error


def _unreadable(url: str, error: Exception) -> WebError:
    return WebError(f"'{url}' cannot be read: {error or type(error).__name__}")


def _opener() -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    handlers: Iterable[type[urllib.request.BaseHandler]] = (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    )
    for handler in handlers:
        opener.add_handler(handler())
    return opener
