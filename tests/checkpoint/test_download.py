"""Downloads against a server on loopback: cut, changed, wrong, endless, asked for twice at once."""

import hashlib
import json
import logging
import random
import shutil
import subprocess
import sys

import pytest

from mindformers_vit.checkpoint import download
from mindformers_vit.checkpoint.download import fetch
from mindformers_vit.errors import CheckpointError
from tests.loopback import serving

pytestmark = pytest.mark.fast

CONTENT = random.Random(0).randbytes(300_000)


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE", 0.0)
    with serving() as site:
        site.files["/a.pth"] = CONTENT
        yield site


def left(folder):
    """The files in a folder but for locks."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_a_file_is_fetched_once_and_checked(site, tmp_path):
    target = tmp_path / "new" / "a.pth"
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    md5 = hashlib.md5(CONTENT).hexdigest()
    assert fetch(f"{site.url}/a.pth", target, sha256=sha256.upper(), md5_prefix=md5[:6]) == target
    assert target.read_bytes() == CONTENT
    assert left(target.parent) == ["a.pth"]
    fetch(f"{site.url}/a.pth", target)
    assert len(site.seen) == 1


def test_a_cut_connection_goes_on_where_it_ended(site, tmp_path):
    site.cuts = [100_000, 70_000]
    fetch(f"{site.url}/a.pth", tmp_path / "a.pth")
    assert (tmp_path / "a.pth").read_bytes() == CONTENT
    assert [asked for _, asked in site.seen] == ["", "bytes=100000-", "bytes=170000-"]


def test_after_too_many_failures_the_next_call_goes_on(site, tmp_path):
    site.cuts = [100_000, *[0] * download.ATTEMPTS]
    with pytest.raises(CheckpointError, match=r"a\.pth': the connection ended after 0 of 200000"):
        fetch(f"{site.url}/a.pth", tmp_path / "a.pth")
    assert len(site.seen) == download.ATTEMPTS + 1
    assert left(tmp_path) == [".a.pth.part", ".a.pth.part.json"]
    site.cuts, site.seen = [], []
    fetch(f"{site.url}/a.pth", tmp_path / "a.pth")
    assert site.seen == [("/a.pth", "bytes=100000-")]
    assert (tmp_path / "a.pth").read_bytes() == CONTENT


@pytest.mark.parametrize("change", ["content", "no ranges", "another URL"])
def test_what_cannot_be_resumed_starts_again(site, tmp_path, change):
    site.cuts = [100_000, *[0] * download.ATTEMPTS]
    with pytest.raises(CheckpointError):
        fetch(f"{site.url}/a.pth", tmp_path / "a.pth")
    site.cuts = []
    name = "b.pth" if change == "another URL" else "a.pth"
    site.files[f"/{name}"] = CONTENT[::-1]
    site.ranges = change != "no ranges"
    fetch(f"{site.url}/{name}", tmp_path / "a.pth")
    assert (tmp_path / "a.pth").read_bytes() == CONTENT[::-1]


def test_a_complete_part_is_not_asked_for_again(site, tmp_path):
    (tmp_path / ".a.pth.part").write_bytes(CONTENT)
    told = {"url": f"{site.url}/a.pth", "validator": "x", "size": len(CONTENT)}
    (tmp_path / ".a.pth.part.json").write_text(json.dumps(told))
    fetch(f"{site.url}/a.pth", tmp_path / "a.pth")
    assert site.seen == []
    assert (tmp_path / "a.pth").read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_wrong_checksum_leaves_nothing(site, tmp_path, kind):
    wanted = {"sha256": {"sha256": "ab" * 32}, "md5": {"md5_prefix": "abcdef"}}[kind]
    with pytest.raises(CheckpointError) as error:
        fetch(f"{site.url}/a.pth", tmp_path / "a.pth", **wanted)
    found = hashlib.new(kind, CONTENT).hexdigest()
    assert f"the {kind} is {found}, {next(iter(wanted.values()))} is expected" in str(error.value)
    assert left(tmp_path) == []


def test_answers_that_end_it_at_once(site, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="the server answered 404 Not Found"):
        fetch(f"{site.url}/gone.pth", tmp_path / "gone.pth")
    assert len(site.seen) == 1
    with pytest.raises(CheckpointError, match="only http and https"):
        fetch("file:///etc/passwd", tmp_path / "x.pth")
    monkeypatch.setattr(download, "MAX_BYTES", 1000)
    with pytest.raises(CheckpointError, match="300000 bytes, at most 1000 are read"):
        fetch(f"{site.url}/a.pth", tmp_path / "a.pth")
    monkeypatch.undo()
    usage = type(shutil.disk_usage(tmp_path))(10, 5, 5)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(CheckpointError, match=r"300000 bytes are to come, .* has room for 5"):
        fetch(f"{site.url}/a.pth", tmp_path / "a.pth")
    assert left(tmp_path) == []


def test_nobody_there(tmp_path, caplog):
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(CheckpointError, match=r"http://127\.0\.0\.1:9/a\.pth' cannot be read: "),
    ):
        fetch("http://127.0.0.1:9/a.pth", tmp_path / "a.pth")
    assert not caplog.records  # asked once: offline is told at once
    assert left(tmp_path) == []


def test_a_folder_that_cannot_be_written(site, tmp_path):
    (tmp_path / "a").write_bytes(b"a file")
    with pytest.raises(CheckpointError, match="cannot be written"):
        fetch(f"{site.url}/a.pth", tmp_path / "a" / "a.pth")


def test_two_processes_fetch_it_once(site, tmp_path):
    code = (
        "import sys; from pathlib import Path; from mindformers_vit.checkpoint.download import "
        "fetch; print(len(fetch(sys.argv[1], Path(sys.argv[2])).read_bytes()))"
    )
    command = [sys.executable, "-c", code, f"{site.url}/a.pth", str(tmp_path / "a.pth")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=30)[0] for process in both] == ["300000\n"] * 2
    assert site.seen == [("/a.pth", "")]
