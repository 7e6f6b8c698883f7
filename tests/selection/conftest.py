"""Fixtures of the tests of selection."""

import tempfile
from pathlib import Path

import pytest


@pytest.fixture
def public_path():
    """A folder that every user may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
