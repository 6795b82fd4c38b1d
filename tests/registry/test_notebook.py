"""Mechanisms that are defined in a notebook: their source, with what it uses, becomes a file for the workers."""

import linecache
import sys
import types
from pathlib import Path

import pytest
import torch

import attnbench
from attnbench.registry import declaration, import_file, notebook, registry

CELLS = (
    "import math\nfrom torch import nn\nimport torch.nn.functional as F\nSCALE = 3\nWIDE = object()\n",
    "def triple(x):\n    return SCALE * x * math.sqrt(1.0)\n\n\nbroken = [1 / 1]\n",
    """
import attnbench

print(undefined_if_run_again)

@attnbench.mechanism(name={name!r}, title="a layer of a cell")
class Tripled(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.line = nn.Linear(dim, dim)

    def forward(self, x):
        broken = F.relu(x)  # a local name that is also a name of the notebook
        return {returns}
""",
)


@pytest.fixture
def kernel(monkeypatch):
    """Runs cells as a notebook's kernel does: in a `__main__` without a file, their text known to linecache."""
    main = types.ModuleType("__main__")
    main.undefined_if_run_again = ""
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(registry, "_here", [])
    count = iter(range(100))

    def run(*cells):
        for text in cells:
            name = f"<cell {next(count)}>"
            linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
            exec(compile(text, name, "exec"), vars(main))
        return vars(main)

    yield run
    declaration.drain()


def cell(name="tripled", returns="self.line(triple(x)) + 0 * broken"):
    return CELLS[2].format(name=name, returns=returns)


def test_a_cells_mechanism_becomes_a_file_with_what_it_uses_and_nothing_else_of_the_notebook(kernel, tmp_path):
    kernel(CELLS[0], CELLS[1], cell())
    (file,) = registry.notebook_files(("tripled[x=1]", "msa"), tmp_path)
    text = Path(file).read_text()
    assert [part in text for part in ("def triple(x)", "SCALE = 3", "import torch.nn.functional as F")] == [True] * 3
    assert [part in text for part in ("undefined_if_run_again", "WIDE")] == [False] * 2
    import_file(Path(file))
    (made,) = declaration.drain()
    assert made.name == "tripled"
    assert made.build(dim=6, heads=1)(torch.ones(1, 2, 3, 6)).shape == (1, 2, 3, 6)


def test_a_cell_that_runs_again_replaces_the_mechanism_and_its_file(kernel, tmp_path):
    kernel(CELLS[0], CELLS[1], cell())
    (first,) = registry.notebook_files((), tmp_path)
    kernel(cell(returns="self.line(x)"))
    (second,) = registry.notebook_files((), tmp_path)
    assert first != second
    assert "def triple(x)" not in Path(second).read_text()
    assert "tripled" in registry.load((second,), entry_points=False).names()


def test_what_no_file_can_hold_is_refused_by_name(kernel, tmp_path):
    kernel(CELLS[0], cell(returns="self.line(x) * WIDE"))
    with pytest.raises(attnbench.AttnbenchError, match=r"tripled uses WIDE, which is .* of type object; make"):
        registry.notebook_files((), tmp_path)


def test_a_scripts_mechanism_is_refused_with_the_remedy(kernel, tmp_path):
    kernel(CELLS[0], CELLS[1], cell())
    sys.modules["__main__"].__file__ = "script.py"
    with pytest.raises(
        attnbench.AttnbenchError, match=r"script script.py, which would run again there; write .* a file"
    ):
        registry.notebook_files((), tmp_path)
    assert notebook.is_by_hand(registry._here[-1])
