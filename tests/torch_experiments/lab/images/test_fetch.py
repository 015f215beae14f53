"""Fetching from a server of our own: resumed, checked, unpacked; without a network it says what to do."""

import hashlib
import io
import tarfile
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from torch_experiments.lab.images import fetch
from torch_experiments.lab.images.fetch import Fetchable, File

CONTENT = bytes(range(256)) * 4096


@contextmanager
def served(content, broken_after=None):
    """Serve ``content`` at every path with byte ranges; the first answer ends after ``broken_after`` bytes."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
            asked.append(start)
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            stop = broken_after if broken_after and len(asked) == 1 else len(content)
            self.wfile.write(content[start:stop])

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/file", asked
        finally:
            server.shutdown()
            thread.join()


def sums(content):
    return hashlib.md5(content).hexdigest()


def test_a_broken_transfer_is_resumed(tmp_path):
    with served(CONTENT, broken_after=300_000) as (url, asked):
        file = File("data.bin", url, sums(CONTENT))
        with pytest.raises(ConnectionError, match=r"ended after 300,000 of 1,048,576 bytes.*same command resumes"):
            fetch.download(file, tmp_path)
        seen = []
        path = fetch.download(file, tmp_path, lambda done, total: seen.append((done, total)))
    assert asked == [0, 300_000]
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [p.name for p in tmp_path.iterdir()] == ["data.bin"]


def test_a_wrong_sum_is_named_and_the_file_set_aside(tmp_path):
    with served(CONTENT) as (url, _), pytest.raises(ValueError, match=r"MD5 sum .*, expected 0000"):
        fetch.download(File("data.bin", url, "0" * 32), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["data.bin.bad"]


def test_an_archive_is_unpacked_once(tmp_path, monkeypatch):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        entry = tarfile.TarInfo("inner/batch")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"data"))
    with served(raw.getvalue()) as (url, asked):
        found = Fetchable((File("x.tar.gz", url, sums(raw.getvalue())),), "test", "inner")
        monkeypatch.setattr(fetch, "DATA", {"x": found})
        paths = [fetch.fetch("x", tmp_path) for _ in range(2)]
    assert len(asked) == 1
    assert paths[0] == paths[1] == tmp_path / "x" / "inner"
    assert (paths[0] / "batch").read_bytes() == b"data"


def test_without_a_network_it_says_what_to_do(tmp_path):
    with served(CONTENT) as (url, _):
        pass
    with pytest.raises(
        ConnectionError, match=r"cannot be reached .*fetch the file elsewhere and put it at .*MD5 abc"
    ):
        fetch.download(File("data.bin", url, "abc"), tmp_path)


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"got 'mnits'; allowed are tiny-imagenet, cifar10"):
        fetch.fetch("mnits", tmp_path)
