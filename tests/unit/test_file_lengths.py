from pathlib import Path

PROJECT = Path(__file__).parents[2]
FOLDERS = ("ssl_pkg", "jobs", "analysis", "slurm", "bench", "tests")


def test_no_file_has_more_than_300_lines() -> None:
    files = [*PROJECT.glob("*.py"), *(file for name in FOLDERS for file in (PROJECT / name).rglob("*.py"))]
    lengths = {str(file.relative_to(PROJECT)): len(file.read_text().splitlines()) for file in files}
    assert len(lengths) > 100
    assert {name: length for name, length in lengths.items() if length > 300} == {}
