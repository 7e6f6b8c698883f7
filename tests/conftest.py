"""Fixtures of all tests."""

from __future__ import annotations

import os

import pytest
import torch

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # the workers of pytest-xdist share the cores


@pytest.fixture(autouse=True)
def seeded():
    """Seeds every test, independent of other tests."""
    torch.manual_seed(0)
