"""docs/notebook.ipynb runs from its first cell to its last in a real kernel."""

import json
import sys
from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient", reason="nbclient and ipykernel run the notebook")
NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebook.ipynb"


@pytest.mark.slow
def test_the_notebook_runs_and_measures_the_mechanism_of_its_cell(tmp_path, monkeypatch):
    import nbformat

    kernels = tmp_path / "kernels" / "python3"
    kernels.mkdir(parents=True)
    words = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernels / "kernel.json").write_text(json.dumps({"argv": words, "display_name": "here", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("ATTNBENCH_CACHE_DIR", str(tmp_path / "cache"))
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(book, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = ["".join(o.get("data", {}).get("text/plain", "") for o in cell.get("outputs", ())) for cell in book.cells]
    (records,) = [text for text in shown if "flag_names" in text]
    assert records.count(" ok ") == 3
    assert "squeeze" in records
    assert (tmp_path / "report" / "index.html").exists()
