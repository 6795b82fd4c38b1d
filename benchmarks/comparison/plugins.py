"""Plugin files that a comparison writes into its folder, for the tool to load in every process."""

from __future__ import annotations

import re
from pathlib import Path

from attnbench.errors import AttnbenchError

HERE = Path(__file__).resolve().parents[1]


def authors_plugin(adapter: Path, folder: Path, files: Path | None = None) -> Path:
    """A file that declares the layers of an adapter, of the authors' files in `files`."""
    given = f", Path({str(files.resolve())!r})" if files else ""
    text = (
        '"""Declares the layers of an adapter file; written by against_authors.py."""\n\n'
        "import sys\nfrom pathlib import Path\n\n"
        f"sys.path.insert(0, {str(HERE)!r})\n"
        "from comparison.authors import declare\n\n"
        f"declare(Path({str(adapter.resolve())!r}){given})\n"
    )
    return _write(folder / "theirs.py", text)


def base_plugin(name: str, source: str, folder: Path) -> Path:
    """A file that declares an older state of one of our layers as `base_NAME`.

    Args:
        name: of the mechanism.
        source: text of its file in the older revision; what it imports is of the current one.
        folder: where to write.

    Raises:
        AttnbenchError: the source does not declare this name exactly once.
    """
    declared = re.compile(rf'^    name="{re.escape(name)}",$', re.MULTILINE)
    if len(declared.findall(source)) != 1:
        raise AttnbenchError(f'the older file must have the line `name="{name}",` once; compare it by another way')
    return _write(folder / f"base_{name}.py", declared.sub(f'    name="base_{name}",', source))


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
