"""Tests of dense tasks find torchvision as it is, whatever another test of this process put in its place."""

from __future__ import annotations

import sys

import pytest
import torchvision_stand_in


@pytest.fixture(autouse=True)
def _no_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a stand-in was needed, torchvision itself does not load."""
    if torchvision_stand_in.declared():
        monkeypatch.setitem(sys.modules, "torchvision", None)
        monkeypatch.setitem(sys.modules, "torchvision.ops", None)
