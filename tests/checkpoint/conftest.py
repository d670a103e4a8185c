"""A run that the tests of a module read."""

from pathlib import Path

import pytest

from sb3_tom.checkpoint import ResumeCallback
from tests.checkpoint.runs import make_agent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of 0 and 20 env steps."""
    path = tmp_path_factory.mktemp("run")
    make_agent().learn(20, callback=ResumeCallback(path, 100))
    return path
