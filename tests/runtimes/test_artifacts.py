"""Exported layers in the cache: named by all that they depend on, kept within a limit, never half written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from attnbench.runtimes import artifacts


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTNBENCH_CACHE_DIR", str(tmp_path))


def write(module: nn.Module, example: torch.Tensor, precision: str, path: Path) -> None:
    path.write_bytes(b"x" * 100)


def fail(module: nn.Module, example: torch.Tensor, precision: str, path: Path) -> None:
    path.write_bytes(b"half")
    raise RuntimeError("it failed in the middle")


def layer(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Linear(2, 2)


X = torch.zeros(1, 2)


def test_a_layer_is_exported_once():
    first = artifacts.make(write, layer(), X, "fp32", "bin", "msa")
    again = artifacts.make(write, layer(), X, "fp32", "bin", "msa")
    assert (first.known, again.known) == (False, True)
    assert first.path == again.path
    assert (again.size, again.export_s) == (100, first.export_s)


def test_whatever_the_file_depends_on_changes_its_name():
    def name(module=None, x=X, precision="fp32", suffix="bin", words="msa"):
        return artifacts.make(write, module or layer(), x, precision, suffix, words).path.name

    names = [
        name(), name(layer(1)), name(x=torch.zeros(2, 2)), name(x=X.half()), name(precision="int8"),
        name(suffix="onnx"), name(words="msa[a=1]"),
    ]  # fmt: skip
    assert len(set(names)) == len(names)


def test_an_export_that_fails_leaves_nothing():
    with pytest.raises(RuntimeError, match="in the middle"):
        artifacts.make(fail, layer(), X, "fp32", "bin", "msa")
    assert list(artifacts.folder().iterdir()) == []


def test_the_files_used_longest_ago_go_first_and_the_newest_stays(monkeypatch):
    made = [artifacts.make(write, layer(n), X, "fp32", "bin", "msa").path for n in range(3)]
    for age, path in enumerate(reversed(made)):
        os.utime(path, (1000 - age, 1000 - age))
    artifacts.path_of(made[0].name)  # it is used again
    artifacts.trim(keep=made[2], limit=200)
    assert [p.exists() for p in made] == [True, False, True]
    assert not made[1].with_name(f"{made[1].name}.json").exists()
    artifacts.trim(keep=made[2], limit=0)
    assert [p.exists() for p in made] == [False, False, True]


def test_what_a_killed_export_left_is_removed_later(monkeypatch):
    kept = artifacts.make(write, layer(), X, "fp32", "bin", "msa").path
    part = artifacts.folder() / "part-1-x.bin"
    part.write_bytes(b"half")
    artifacts.trim(keep=kept)
    assert part.exists()
    os.utime(part, (1000, 1000))
    artifacts.trim(keep=kept)
    assert not part.exists()


def test_the_cache_is_outside_the_repository(monkeypatch):
    monkeypatch.delenv("ATTNBENCH_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert artifacts.folder() == Path.home() / ".cache" / "attnbench" / "exports"
