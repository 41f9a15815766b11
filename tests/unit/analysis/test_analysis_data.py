"""The sentence about a study's data that accompanies every table."""

import pytest
from fake_study import FakeStudy

from analysis import data
from analysis.reading import read_study


@pytest.mark.parametrize(
    ("seen", "warned"),
    [
        (["STL-10"], False),
        (["CIFAR-10", "STL-10"], False),
        (["synthetic"], True),
        (["stand-in"], True),
        (["STL-10", "stand-in"], True),
        (["STL-10-like"], True),
        (["own images"], True),
        (["own images (STL-10)", "stand-in"], True),
    ],
)
def test_data_in_the_place_of_the_published_files_gets_a_warning(seen: list[str], warned: bool) -> None:
    assert data.data_warning(seen).startswith("These are not STL-10 numbers") is warned
    assert data.data_warning(["STL-10"], seen).startswith("The OOD numbers") is warned


def test_a_table_outside_the_report_names_its_data(fake: FakeStudy) -> None:
    fake.data = "STL-10"
    fake.probe("random")
    assert data.data_note(read_study(fake.path)) == "The data was STL-10, the published files."
    fake.data = "stand-in"
    fake.probe("byol")
    assert data.data_note(read_study(fake.path)).startswith("These are not STL-10 numbers. The data was “stand-in”")


def test_own_images_instead_of_cifar10_get_a_warning_beside_stl10_only() -> None:
    own = ["own images (birds)"]
    assert data.data_warning(own, own) == ""
    assert data.data_warning(own, ["CIFAR-10"]) == ""
    assert data.data_warning(own, ["stand-in"]).startswith("The OOD numbers here are not CIFAR-10 numbers")
    assert data.data_warning(["STL-10"], own).startswith("The OOD numbers here are not CIFAR-10 numbers")
