import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import CIFAR, STL, write_cifar10
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssl_pkg.data.cifar10 import open_cifar10
from ssl_pkg.errors import BadInput


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("layout", ["cifar-10-batches-py", "cifar-10-batches-bin"])
def test_both_layouts_give_the_same_images_with_labels_mapped_by_name(
    tmp_path: Path, layout: str, protocol: int
) -> None:
    pixels, labels = write_cifar10(tmp_path, protocol=protocol)
    for other in {"cifar-10-batches-py", "cifar-10-batches-bin"} - {layout}:
        shutil.rmtree(tmp_path / other)
    ood = open_cifar10(tmp_path, tuple(STL))
    assert np.array_equal(ood.test.pixels, pixels)
    expected = [{"automobile": "car", "frog": "monkey"}.get(CIFAR[label], CIFAR[label]) for label in labels]
    assert [STL[label] for label in ood.test.labels] == expected
    assert [STL[label] for label in ood.substituted] == ["monkey"]
    assert [STL[label] for label in ood.shared] == [name for name in STL if name != "monkey"]


def test_a_model_that_knows_frogs_needs_no_substitute(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    ood = open_cifar10(tmp_path, tuple(CIFAR))
    assert ood.substituted == ()
    assert ood.shared == tuple(range(10))
    assert ood.test.labels.tolist() == (np.arange(20) % 10).tolist()


def test_a_class_without_a_counterpart_is_an_error(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    with pytest.raises(BadInput, match=r"a class 'truck', which the model doesn't know .*: use the same name in stl10"):
        open_cifar10(tmp_path, tuple(name if name != "truck" else "lorry" for name in STL))


def test_official_names_are_used_if_the_file_of_names_is_missing(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    shutil.rmtree(tmp_path / "cifar-10-batches-py")
    (tmp_path / "cifar-10-batches-bin/batches.meta.txt").unlink()
    assert len(open_cifar10(tmp_path, tuple(STL)).test) == 20


def test_a_missing_test_set_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has neither"):
        open_cifar10(tmp_path, tuple(STL))


def test_a_truncated_binary_file_is_an_error(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    shutil.rmtree(tmp_path / "cifar-10-batches-py")
    file = tmp_path / "cifar-10-batches-bin/test_batch.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BadInput, match=r"not a multiple of 3,073"):
        open_cifar10(tmp_path, tuple(STL))


@pytest.mark.parametrize("name", ["cifar-10-batches-py/test_batch", "cifar-10-batches-bin/test_batch.bin"])
def test_an_error_of_the_disk_is_a_fault_of_the_machine(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).symlink_to("/proc/self/mem")  # whose first bytes can't be read
    with pytest.raises(OSError, match=f"Input/output error: .*{name}"):
        open_cifar10(tmp_path, tuple(STL))


def test_a_pickle_cannot_run_code(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    marker = tmp_path / "ran"

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (marker,)

    (tmp_path / "cifar-10-batches-py/test_batch").write_bytes(pickle.dumps({"data": Attack()}))
    with pytest.raises(BadInput, match="is not a CIFAR-10 pickle"):
        open_cifar10(tmp_path, tuple(STL))
    assert not marker.exists()


@settings(
    derandomize=True, deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_damaged_pickle_is_an_error_or_still_gives_images(tmp_path: Path, data: st.DataObject) -> None:
    root = tmp_path / "damaged"
    shutil.rmtree(root, ignore_errors=True)
    write_cifar10(root, count=2)
    file = root / "cifar-10-batches-py/test_batch"
    content = bytearray(file.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        ood = open_cifar10(root, tuple(STL))
    except BadInput:
        return
    assert ood.test.pixels.shape[1:] == (3, 32, 32)
