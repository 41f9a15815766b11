import shutil
import subprocess
import time
from pathlib import Path

from ssl_pkg.processes import start_time_of


def test_a_process_whose_name_the_kernel_cut_within_a_character_has_a_start_time(tmp_path: Path) -> None:
    program = tmp_path / ("a" * 14 + "é")
    shutil.copy("/bin/sleep", program)
    process = subprocess.Popen([program, "60"])
    try:
        end = time.monotonic() + 10
        while Path(f"/proc/{process.pid}/comm").read_bytes().strip() != b"a" * 14 + "é".encode()[:1]:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert start_time_of(process.pid)
    finally:
        process.kill()
        process.wait()
