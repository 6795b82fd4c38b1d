"""A git repository for a test, made where nothing of the user's own settings acts."""

from __future__ import annotations

import subprocess
from pathlib import Path


def git(folder: Path, *words: str) -> str:
    """What git prints."""
    own = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", "-c", "core.hooksPath=/dev/null"]
    return subprocess.run(["git", *own, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def create(folder: Path) -> None:
    """An empty repository; the folder is made where it is not there."""
    folder.mkdir(exist_ok=True)
    git(folder, "init", "-q", "-b", "main")


def commit_all(folder: Path, message: str) -> None:
    """A commit of every file."""
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)
