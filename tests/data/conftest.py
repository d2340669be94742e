"""One small data set for the whole folder."""

from pathlib import Path

import pytest

from mindformers_vit.data.sources import ImageSource, open_source
from tests.data.helpers import class_folders


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> ImageSource:
    """23 images in three classes."""
    root: Path = tmp_path_factory.mktemp("images")
    return open_source(class_folders(root, {"cat": 9, "ant": 8, "dog": 6}))
