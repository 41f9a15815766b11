"""Everything works on file systems without locks, links, mmap, modes, utime or fsync of folders."""

import errno
import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import lock_race
import pytest
from file_systems import MINIMAL, FileSystem
from trainers import Study, differences

from ssl_pkg.cache import SYNTHETIC_MANIFEST
from ssl_pkg.errors import COMPLETE, FAULT

PROJECT = Path(__file__).parents[2]
NO_LOCKS = {"flock": errno.ENOLCK, "fcntl": errno.ENOLCK}  # MINIMAL has ENOSYS, which filelock knows
Mounted = Callable[..., FileSystem]


@pytest.fixture
def mounted(library: Path, folder: Path) -> Mounted:
    """Creates a folder on a file system on which the given calls fail."""
    (folder / "disk").mkdir()
    return lambda **failing: FileSystem(library, folder / "disk", failing)


def test_a_run_on_a_minimal_file_system_has_the_same_bits(study: Study, data: Path, mounted: Mounted) -> None:
    disk = mounted(**MINIMAL)
    shutil.copytree(data, disk.folder / "data")
    run_dir = disk.folder / "run"
    more = f"data.root={disk.folder / 'data'}", "data.resident_gb=0"
    done = disk.run("-m", "ssl_pkg", *study.line("simclr", run_dir, *more))
    assert done.returncode == COMPLETE, done.stderr
    assert differences(study.uninterrupted("simclr"), run_dir) == []
    assert {"link", "fsync_folder", "chmod"} <= disk.failed()

    line = (
        "stage=probe",
        "budget=tiny",
        "threads=1",
        f"source={run_dir}",
        f"run_dir={disk.folder / 'probe'}",
        more[0],
        "probe.l2_count=2",
    )
    done = disk.run("-m", "ssl_pkg", *line)
    assert done.returncode == COMPLETE, done.stderr


def test_a_disk_error_is_reported_in_one_sentence(study: Study, mounted: Mounted) -> None:
    disk = mounted(fsync=errno.EIO)
    done = disk.run("-m", "ssl_pkg", *study.line("simclr", disk.folder / "run"))
    assert done.returncode == FAULT
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"ssl_pkg: run_dir={disk.folder / 'run'}: [Errno 5] Input/output")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS])
def test_without_hard_links_exactly_one_of_many_processes_gets_the_lock(mounted: Mounted, number: int) -> None:
    disk = mounted(**MINIMAL | {"link": number})
    done = disk.run(lock_race.__file__, disk.folder, "15")
    assert done.returncode == 0, done.stderr
    assert "link" in disk.failed()


HEARTBEAT = """
import sys
from pathlib import Path
from ssl_pkg.run.lock import RunLock

lock = RunLock(Path(sys.argv[1]))
lock.acquire()
before, content = lock.path.stat().st_mtime_ns, lock.path.read_bytes()
while lock.path.stat().st_mtime_ns == before:
    lock.heartbeat()
assert lock.path.read_bytes() == content
(lock.folder / "successor").write_bytes(b"{}")
(lock.folder / "successor").rename(lock.path)
lock.heartbeat()
assert lock.path.read_bytes() == b"{}"
"""


def test_heartbeats_work_on_a_file_system_without_utime(mounted: Mounted) -> None:
    disk = mounted(utime=errno.EPERM)
    done = disk.run("-c", HEARTBEAT, disk.folder)
    assert done.returncode == 0, done.stderr
    assert disk.failed() == {"utime"}


WRITE = """
import sys
from pathlib import Path
from ssl_pkg.run.directory import write_json
write_json(Path(sys.argv[1], "result.json"), {"a": 1})
"""


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO, errno.EOPNOTSUPP, errno.EACCES])
def test_files_are_written_although_their_folder_can_not_be_synced(mounted: Mounted, number: int) -> None:
    disk = mounted(fsync_folder=number)
    done = disk.run("-c", WRITE, disk.folder)
    assert done.returncode == 0, done.stderr
    assert disk.failed() == {"fsync_folder"}
    assert [file.name for file in disk.folder.iterdir()] == ["result.json"]


SMALL_STUDY = PROJECT / "tests/integration/small_study.py"


def test_a_study_is_run_by_one_process_on_a_file_system_without_locks(mounted: Mounted) -> None:
    disk = mounted(**MINIMAL | NO_LOCKS)
    first = disk.start(SMALL_STUDY, disk.folder, "2", "0.3")
    while not (disk.folder / "EVENTS").exists():
        assert first.poll() is None
        time.sleep(0.05)
    second = disk.run("-c", ASK, disk.folder)
    assert second.stdout.startswith(f"study small is being run by process {first.pid} on "), second.stderr
    stderr, _ = first.communicate()
    assert first.returncode == COMPLETE, stderr
    assert "Traceback" not in stderr and "Warning" not in stderr
    assert "flock" in disk.failed()


ASK = """
import sys
from pathlib import Path
from jobs.study_lock import study_lock
from ssl_pkg.errors import BadInput
try:
    with study_lock(Path(sys.argv[1], "small")):
        print("had it")
except BadInput as error:
    print(error)
"""

COPY = """
import sys
from pathlib import Path
from jobs.cluster.data_copy import copy_data
print(copy_data(Path(sys.argv[1]), Path(sys.argv[2])))
"""


def test_images_are_copied_to_a_file_system_without_locks(data: Path, mounted: Mounted) -> None:
    disk = mounted(**NO_LOCKS, link=errno.EPERM)
    both = [disk.start("-c", COPY, data, disk.folder) for _ in range(2)]
    stderr = {process.communicate()[0] for process in both}
    assert [process.returncode for process in both] == [0, 0], stderr
    (copied,) = (Path(line.strip()) for line in stderr)
    names = sorted(file.relative_to(data) for file in [*data.glob("*/*"), data / SYNTHETIC_MANIFEST])
    assert sorted(file.relative_to(copied) for file in copied.rglob("*") if file.is_file()) == names


@pytest.fixture
def archive(folder: Path) -> Iterator[tuple[str, str]]:
    """The URL and the md5 of an archive of the folder `set`, from a slow server."""
    served = folder / "served"
    (served / "set").mkdir(parents=True)
    (served / "set/names.txt").write_text("cat\n", encoding="utf-8")
    file = Path(shutil.make_archive(str(served / "set"), "gztar", served, "set"))

    class Slow(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(1.0)
            super().do_GET()

        def log_message(self, *_: object) -> None:
            """Prints nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Slow, directory=str(served))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/{file.name}", hashlib.md5(file.read_bytes()).hexdigest()
        server.shutdown()
        thread.join()


FETCH = """
import sys
from ssl_pkg.data.download import Archive, main
sys.exit(main([sys.argv[1]], [Archive(sys.argv[2], sys.argv[3], "set")]))
"""


def test_one_of_two_downloads_succeeds_on_a_file_system_without_locks(
    mounted: Mounted, archive: tuple[str, str]
) -> None:
    disk = mounted(**MINIMAL | NO_LOCKS)
    first = disk.start("-c", FETCH, disk.folder, *archive)
    while not list(disk.folder.iterdir()):
        assert first.poll() is None
        time.sleep(0.01)
    second = disk.run("-c", FETCH, disk.folder, *archive)
    stderr, _ = first.communicate()
    assert first.returncode == COMPLETE, stderr
    assert second.returncode == 2
    assert "another process is downloading" in second.stderr and "wait until it has finished" in second.stderr
    assert [entry.name for entry in disk.folder.iterdir()] == ["set"]
