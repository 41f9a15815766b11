"""Downloads from a local test server that can close the connection early, ignore ranges and send a wrong file."""

import errno
import hashlib
import http.client
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ssl_pkg.data.download import Archive, fetch, main
from ssl_pkg.errors import BadInput
from ssl_pkg.run.file_lock import locked


def packed(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as out:
        for name, content in members:
            facts = tarfile.TarInfo(name)
            facts.size = len(content)
            out.addfile(facts, io.BytesIO(content))
    return buffer.getvalue()


SET = packed(("set/train_X.bin", bytes(range(256)) * 5000), ("set/names.txt", b"cat\n"))


class Server(ThreadingHTTPServer):
    """Serves `content` at every path except /missing; the first response ends after `cut` bytes."""

    content, cut, ranges = SET, len(SET), True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requested_ranges: list[str | None] = []

    def archive(self, path: str = "set.tar.gz") -> Archive:
        md5 = hashlib.md5(self.content).hexdigest()
        return Archive(f"http://127.0.0.1:{self.server_port}/{path}", md5, "set")


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        requested = self.headers.get("Range")
        self.server.requested_ranges.append(requested)
        start = int(requested.removeprefix("bytes=").rstrip("-")) if requested and self.server.ranges else 0
        if self.path == "/missing":
            self.send_error(404)
        elif start >= len(self.server.content):
            self.send_error(416)
        else:
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(self.server.content) - start))
            self.end_headers()
            self.wfile.write(self.server.content[start : self.server.cut])
            self.server.cut = len(self.server.content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server names it
        """Suppresses the server's log."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_set_is_fetched_once_and_nothing_else_is_left(tmp_path: Path, server: Server) -> None:
    assert main([str(tmp_path / "data")], [server.archive()]) == 0
    assert main([str(tmp_path / "data")], [server.archive()]) == 0
    assert server.requested_ranges == [None]
    assert (tmp_path / "data/set/train_X.bin").read_bytes() == bytes(range(256)) * 5000
    assert [entry.name for entry in (tmp_path / "data").iterdir()] == ["set"]


@pytest.mark.parametrize("ranges", [True, False], ids=["server supports ranges", "server ignores ranges"])
def test_an_interrupted_download_resumes(tmp_path: Path, server: Server, ranges: bool) -> None:
    server.cut, server.ranges = 1000, ranges
    with pytest.raises(BadInput, match="run the same command again to resume"):
        fetch(server.archive(), tmp_path)
    assert not (tmp_path / "set").exists()
    fetch(server.archive(), tmp_path)
    assert server.requested_ranges == [None, "bytes=1000-"]
    assert (tmp_path / "set/names.txt").read_text() == "cat\n"


def test_a_network_that_fails_on_the_way_is_not_reported_as_a_disk(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(self: http.client.HTTPResponse, size: int) -> bytes:
        raise OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))

    monkeypatch.setattr(http.client.HTTPResponse, "read", read)
    assert main([str(tmp_path)], [server.archive()]) == 2
    printed = capsys.readouterr().err
    assert "No route to host): run the same command again to resume" in printed
    assert "can't write" not in printed


def test_a_complete_download_is_not_repeated(tmp_path: Path, server: Server) -> None:
    (tmp_path / "set.tar.gz.part").write_bytes(SET)
    fetch(server.archive(), tmp_path)
    assert (tmp_path / "set/names.txt").exists()


def test_a_file_with_a_wrong_md5_is_deleted_without_unpacking(tmp_path: Path, server: Server) -> None:
    archive = server.archive()
    server.content = packed(("set/names.txt", b"dog\n"))
    with pytest.raises(BadInput, match=f"instead of {archive.md5}"):
        fetch(archive, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../outside", "set/../../outside"])
def test_an_archive_with_paths_outside_its_folder_is_refused(tmp_path: Path, server: Server, name: str) -> None:
    server.content = packed(("set/names.txt", b"cat\n"), (name, b"evil"))
    with pytest.raises(BadInput, match="does not unpack"):
        fetch(server.archive(), tmp_path / "data")
    assert not list(tmp_path.rglob("*outside*"))
    assert not (tmp_path / "data/set").exists()


def test_an_absolute_path_in_an_archive_is_not_written(tmp_path: Path, server: Server) -> None:
    outside = tmp_path / "outside"
    server.content = packed(("set/names.txt", b"cat\n"), (str(outside), b"evil"))
    fetch(server.archive(), tmp_path / "data")
    assert not outside.exists()
    assert [entry.name for entry in (tmp_path / "data").iterdir()] == ["set"]


def test_a_failed_download_is_reported_in_one_line(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)], [server.archive("missing")]) == 2
    unreachable = Archive("http://127.0.0.1:9/set.tar.gz", "", "set")
    assert main([str(tmp_path)], [unreachable]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith("can't download http://127.0.0.1:") for line in lines] == [True, True]


def test_a_second_process_is_refused(tmp_path: Path, server: Server) -> None:
    with locked(tmp_path / ".set.lock"), pytest.raises(BadInput, match="another process is downloading"):
        fetch(server.archive(), tmp_path)


def test_a_folder_with_other_files_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "stl10_binary").mkdir()
    (tmp_path / "stl10_binary" / "train_X.bin").write_bytes(b"synthetic")
    assert main([str(tmp_path)]) == 2
    assert "train_X.bin is not the published one: move" in capsys.readouterr().err


def test_a_place_that_can_not_be_written_is_not_offered_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for place in ("/dev/null", tmp_path / "file", tmp_path / "file" / "below"):
        assert main([str(place)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"can't write {place} (") and line.endswith("): give another folder")
