"""One tiny model for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.engines.transformers import TransformersEngine
from tests.inference.small import build_model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def engine(model_folder: Path) -> TransformersEngine:
    from inference.engines.transformers import create

    return create(model_folder)
