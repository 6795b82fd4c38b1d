"""Faults of the file system: refusals, small disks, limits, folders that go away, a second runner."""

from __future__ import annotations

import contextlib
import errno
import random
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator

from attnbench.results import store
from injection import preludes
from injection.session import Inject, Run

DISK = {"ENOSPC": errno.ENOSPC, "EDQUOT": errno.EDQUOT, "EIO": errno.EIO, "EROFS": errno.EROFS}


def refused(code: int) -> Inject:
    """The system refuses to write after so many bytes of journal and records."""

    def inject(run: Run, rng: random.Random) -> int:
        prelude = preludes.REFUSES.format(room=rng.randrange(12_000), code=code, also=rng.choice((True, False)))
        with run.start(prelude=prelude) as session:
            session.end(4)
            return run.hit(int(session.sign.exists()))

    return inject


def file_size(run: Run, rng: random.Random) -> int:
    """A limit on the size of files, of the runner and its workers (`ulimit -f`, in bytes)."""
    limit = rng.randrange(64, 40_000)
    with run.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))) as session:
        return run.hit(int(session.end(4) == 4))


def folder_deleted(run: Run, rng: random.Random) -> int:
    """The folder is deleted in mid-run: what it held is gone, and the same command measures it again."""
    with run.start() as session:
        if not session.wait_for_instant(rng) or not run.folder.exists():
            session.send("group", signal.SIGKILL)
            session.end()
            return 0
        shutil.rmtree(run.folder, ignore_errors=True)
        run.accept()
        hit = run.hit()
        session.end(2, 4)
    return hit


def folder_moved(run: Run, rng: random.Random) -> int:
    """The folder is renamed in mid-run, and renamed back when the session has ended or before."""
    away = run.base / "away"
    with run.start() as session:
        if not session.wait_for_instant(rng) or not run.folder.exists():
            session.send("group", signal.SIGKILL)
            session.end()
            return 0
        run.folder.rename(away)
        hit = run.hit()
        if rng.random() < 0.5:
            time.sleep(rng.uniform(0, 2))
            if not run.folder.exists():
                away.rename(run.folder)
        session.end(2, 4)
        if away.exists():
            shutil.rmtree(run.folder, ignore_errors=True)
            away.rename(run.folder)
    return hit


def two_runners(run: Run, rng: random.Random) -> int:
    """The same command is started twice: one measures, the other is refused."""
    with run.start() as first:
        first.wait_for_instant(rng)
        with run.start() as second:
            code = second.end(2)
            hit = run.hit(int(code == 2))
            if code == 2 and "in use" not in second.said() and first.process.poll() is None:
                run.problem("wrong", f"refused without the reason: {second.said()[-300:]}")
        if rng.random() < 0.7:
            first.send("group", signal.SIGKILL)
        first.end(2)
    return hit


def read_only(run: Run, rng: random.Random) -> int:
    """The folder cannot be written when the command starts; then it can."""
    if not (run.folder / store.RUN).exists():
        return 0
    with mounted("--bind", str(run.folder), str(run.folder)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(run.folder)], check=True)
        with run.start() as session:
            session.end(2, 4)
            return run.hit(int(session.code in (2, 4)))


def small_disk(kibibytes: int) -> Inject:
    """A file system of this size; it is enlarged afterwards."""

    def inject(run: Run, rng: random.Random) -> int:
        disk = run.base / "disk"
        disk.mkdir()
        run.folder = disk / "r"
        with mounted("-t", "tmpfs", "-o", f"size={kibibytes}k", "none", str(disk)):
            with run.start() as session:
                hit = run.hit(int(session.end(4) == 4))
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            run.finish()
        return hit

    return inject


@contextlib.contextmanager
def mounted(*words: str) -> Iterator[None]:
    """Mount, and unmount at the end."""
    subprocess.run(["mount", *words], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", words[-1]], check=False)


def cannot_mount() -> str:
    """Why no file system can be mounted here; empty: it can."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with mounted("-t", "tmpfs", "-o", "size=16k", "none", folder):
                return ""
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", b"") or b""
            return said.decode(errors="replace").strip() or str(error)
