from pathlib import Path

import pytest
from report_fixtures import built, fake, whole

from ssl_pkg.data.synthetic import Sizes, generate

__all__ = ("built", "fake", "whole")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small synthetic set. Tests must copy it before they change it."""
    root = tmp_path_factory.mktemp("data") / "synthetic"
    generate(root, Sizes(train_per_class=16, test_per_class=5, unlabeled=160, ood_per_class=3))
    return root
