"""The state of a git repository as a folder of its own: a revision, or the working tree as it is now.

The folders lie in the cache, named by their content, so that a state is copied once and the same command finds it
again. The repository is only read: no checkout, no worktree, no index is touched. Submodules are left out.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from attnbench.errors import AttnbenchError
from attnbench.inputs import brief, printable
from attnbench.machine import user_cache
from attnbench.registry.apart import STATE_MARK

MOST_STATES = 16  # folders that stay in the cache
WORKING_TREE = "the working tree"


@dataclass(frozen=True)
class State:
    """One state: what it is called in messages, and the folder with its files."""

    title: str
    folder: Path


def repository_of(file: Path) -> Path:
    """The top folder of the git repository around a file, which need not be there any more.

    Raises:
        AttnbenchError: there is no repository, or no git.
    """
    folder = file.absolute().parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return Path(os.fsdecode(_git(folder, "rev-parse", "--show-toplevel").rstrip(b"\n")))


def inside_repository(file: Path) -> Path:
    """The file's path from the top of its repository.

    Raises:
        AttnbenchError: there is no repository, or no git.
    """
    return (file.parent.resolve() / file.name).relative_to(repository_of(file).resolve())


def revision(repository: Path, name: str) -> State:
    """A commit, by any name that git knows it by.

    Raises:
        AttnbenchError: there is no such commit, or it cannot be copied.
    """
    if not name or name.startswith("-") or not name.isprintable():
        raise AttnbenchError(
            f"a revision is what git calls a commit, such as HEAD~1, a tag or a hash; got {brief(name)}"
        )
    try:
        commit = _git(repository, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").decode().strip()
    except AttnbenchError:
        raise AttnbenchError(
            f"a revision must be a commit of the repository; got {brief(name)}, which {brief(str(repository))} lacks; "
            "`git log --oneline` lists them (a shallow clone has few: fetch more)"
        ) from None
    title = commit[:12] if commit.startswith(name) else f"{name} ({commit[:12]})"

    def fill(folder: Path) -> None:
        with tarfile.open(fileobj=io.BytesIO(_git(repository, "archive", "--format=tar", commit))) as archive:
            archive.extractall(folder, filter="data")

    return State(title, _kept(commit, fill))


def working_tree(repository: Path) -> State:
    """The tracked files as they are now, and Python files that git neither tracks nor ignores.

    Raises:
        AttnbenchError: a file cannot be read.
    """
    listed = _git(repository, "ls-files", "-z", "--cached") + _git(
        repository, "ls-files", "-z", "--others", "--exclude-standard", "--", "*.py"
    )
    files = []
    digest = hashlib.sha256()
    for name in sorted({os.fsdecode(part) for part in listed.split(b"\0") if part}):
        path = repository / name
        with contextlib.suppress(FileNotFoundError):  # deleted, and git still tracks it
            if stat.S_ISREG(path.lstat().st_mode):
                content = path.read_bytes()
                digest.update(f"{len(os.fsencode(name))} {len(content)} ".encode() + os.fsencode(name) + content)
                files.append((name, content))

    def fill(folder: Path) -> None:
        for name, content in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)

    return State(WORKING_TREE, _kept(f"tree-{digest.hexdigest()[:40]}", fill))


def file_in(state: State, relative: Path) -> Path:
    """A file of a state.

    Raises:
        AttnbenchError: the state does not have it.
    """
    path = state.folder / relative
    if not path.is_file():
        raise AttnbenchError(
            f"the plugin must be in both states; {state.title} has no file {brief(str(relative))}; choose a revision "
            "that has it, or --plugin base=OLD.py --plugin head=NEW.py of `attnbench run`"
        )
    return path


def _kept(name: str, fill: Callable[[Path], None]) -> Path:
    """The folder of this name in the cache; it is filled if it is not there."""
    states = user_cache.folder() / "states"
    folder = states / name
    try:
        if not folder.is_dir():
            states.mkdir(parents=True, exist_ok=True)
            part = Path(tempfile.mkdtemp(prefix="part-", dir=states))
            try:
                fill(part)
                (part / STATE_MARK).touch()
                with contextlib.suppress(FileExistsError):
                    part.rename(folder)
            finally:
                shutil.rmtree(part, ignore_errors=True)
        os.utime(folder)
        _trim(states, folder)
    except (OSError, tarfile.TarError) as error:
        raise AttnbenchError(f"a state is copied to {states}, which failed: {printable(str(error))}") from error
    return folder


def _trim(states: Path, keep: Path) -> None:
    """Delete the states that were used longest ago."""
    kept = sorted((p for p in states.iterdir() if p != keep), key=lambda p: p.stat().st_mtime, reverse=True)
    for old in kept[MOST_STATES - 1 :]:
        shutil.rmtree(old, ignore_errors=True)


def _git(folder: Path, *words: str) -> bytes:
    """What git prints.

    Raises:
        AttnbenchError: it fails, or is not installed.
    """
    try:
        ended = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, check=False)
    except OSError as error:
        raise AttnbenchError(f"ab needs git to read a repository; it cannot be started: {error.strerror}") from error
    if ended.returncode:
        why = printable(ended.stderr.decode(errors="replace")) or f"it ended with {ended.returncode}"
        raise AttnbenchError(f"ab reads a git repository; git {words[0]} in {brief(str(folder))} failed: {why}")
    return ended.stdout
