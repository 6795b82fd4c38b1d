"""Plugins that falsify, forge or end what others share cost themselves alone: every other arm's rounds are complete."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from plugins import write_plugin

from attnbench import AttnbenchError, Sweep, run
from attnbench.errors import UnfinishedError
from attnbench.execution import fork_server
from attnbench.execution.progress import Silent
from attnbench.results.store import open_run, read_events

SMALL = {"dim": (24,), "heads": (3,), "res": ((32, 32),), "batch": (1,), "threads": (1,), "protocol": "quick"}
FAST = {
    **SMALL,
    "measure": ("latency",),
    "overrides": (("prime_s", 0.0), ("looks", (6,)), ("processes", 2), ("timeout_s", 60.0)),
}
LATE = "self.n = getattr(self, 'n', 0) + 1; out = self.line(x)\n        if self.n > 9: {}\n        return out"
AT_ONCE = "out = self.line(x); {}; return out"
HOSTILE = {
    "sets_threads": ("torch.set_num_threads(torch.get_num_threads() + 2)", "torch's threads"),
    "switches_onednn": ("torch.backends.mkldnn.enabled = False", "torch.backends.mkldnn.enabled"),
    "zeroes_input": ("x.zero_()", "must not write into its input"),
    "patches_clock": ("time.perf_counter = lambda: float('nan')", "time.perf_counter was replaced"),
    "exits_with_0": ("os._exit(0)", "exit code 0"),
    "writes_everywhere": ("[spray(n) for n in range(3, 256)]", "noise on the worker's channel while it ran"),
    "gives_nan": ("out = out * float('nan')", "must be finite"),
    "gives_its_input": ("out = x", "must return a new tensor; got its input"),
    "spins": ("spin()", "of native code"),
}
WRITES = """
        for n in range(3, 256):
            try: os.write(n, b'Sgarbage' * 9)
            except OSError: pass"""
HELPERS = """
import contextlib, ctypes
LIBC = ctypes.CDLL(None)
ID = ctypes.c_ulong()

def spray(n):
    with contextlib.suppress(OSError):
        os.write(n, b'Sgarbage' * 9)

def spin():  # a thread of the C library, of which Python knows nothing
    LIBC.pthread_create(ctypes.byref(ID), None, LIBC.pause, None)
"""


def assert_others_are_whole(folder: Path) -> dict[str, object]:
    """The records by mechanism, once msa and sra were seen to be ok in every round."""
    records = {r.cell.mechanism: r for r in open_run(folder).records}
    for name in ("msa", "sra"):
        assert (records[name].outcome, records[name].values.get("rounds")) == ("ok", 6), records[name].reason
    assert records["sra"].values["ratio_low"] <= records["sra"].values["ratio_to_reference"]
    return records


@pytest.mark.parametrize("form", [LATE, AT_ONCE], ids=["late", "at_once"])
def test_hostile_layers_are_dropped_with_what_they_changed_and_others_are_measured_whole(form, tmp_path):
    bodies = {name: form.format(body) for name, (body, _) in HOSTILE.items()}
    plugin = write_plugin(tmp_path / "hostile.py", bodies)
    plugin.write_text(plugin.read_text() + HELPERS)
    sweep = Sweep(mechanism=("msa", "sra", *HOSTILE), plugins=(str(plugin),), **FAST)
    records = assert_others_are_whole(run(sweep, tmp_path / "r"))
    for name, (_, reason) in HOSTILE.items():
        assert records[name].outcome == ("crashed" if name == "exits_with_0" else "failed"), records[name]
        assert reason in records[name].reason


def test_what_cannot_be_put_back_ends_the_process_and_not_the_comparison(tmp_path):
    bodies = {
        "stays": LATE.format("threading.Thread(target=time.sleep, args=(1e6,), daemon=True, name='left').start()")
    }
    plugin = write_plugin(tmp_path / "stays.py", bodies)
    records = assert_others_are_whole(run(Sweep(mechanism=("msa", "sra", "stays"), plugins=(str(plugin),), **FAST),
                                   tmp_path / "r"))  # fmt: skip
    assert "threads left behind: left" in records["stays"].reason


def test_a_layer_that_floods_the_pipe_and_never_returns_ends_at_the_deadline(tmp_path):
    plugin = write_plugin(
        tmp_path / "floods.py", {"floods": f"while True:{WRITES.replace('        ', '            ')}"}
    )
    numbers = {**dict(FAST["overrides"]), "timeout_s": 10.0}
    sweep = Sweep(
        mechanism=("msa", "sra", "floods"), plugins=(str(plugin),), **{**FAST, "overrides": (*numbers.items(),)}
    )
    records = assert_others_are_whole(run(sweep, tmp_path / "r"))
    assert records["floods"].outcome == "timeout"


class Killer(Silent):
    """Kills the fork server, in the job or between two jobs, when a stage begins; no other child of the tests."""

    def __init__(self, times: int) -> None:
        self.times = times

    def stage(self, text, cell=None):
        for child in filter(is_fork_server, children()) if self.times else []:
            self.times -= 1
            os.kill(child, signal.SIGKILL)


def is_fork_server(pid: int) -> bool:
    return b"attnbench.execution.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()


def children(of: int | None = None) -> list[int]:
    of = of or os.getpid()
    return [int(pid) for pid in Path(f"/proc/{of}/task/{of}/children").read_text().split()]


def test_a_fork_server_that_is_killed_is_replaced(tmp_path):
    folder = run(Sweep(mechanism=("msa", "sra"), **FAST), tmp_path / "r", watcher=Killer(2))
    assert_others_are_whole(folder)


def test_fork_servers_that_are_killed_again_and_again_end_the_run_with_its_own_exit_code(tmp_path, monkeypatch):
    def ended(self, job, *, patience_s):
        raise fork_server.ServerEndedError("the worker process exited")
        yield

    monkeypatch.setattr(fork_server.ForkServer, "do", ended)
    sweep = Sweep(mechanism=("msa", "sra", "xca", "window", "hilo"), **FAST)
    with pytest.raises(UnfinishedError, match="replaces a fork server 5 times") as caught:
        run(sweep, tmp_path / "r")
    assert caught.value.exit_code == 4


def test_a_record_file_deleted_during_a_run_is_noticed_at_its_end(tmp_path):
    class Deleter(Silent):
        def recorded(self, record):
            (tmp_path / "r" / "records.jsonl").unlink(missing_ok=True)

    sweep = Sweep(mechanism=("msa",), measure=("params", "macs"), **{k: v for k, v in FAST.items() if k != "measure"})
    with pytest.raises(AttnbenchError, match="every planned cell has a record"):
        run(sweep, tmp_path / "r", watcher=Deleter())
    assert len(open_run(run(sweep, tmp_path / "r")).records) == 1
    assert read_events(tmp_path / "r")


HOSTILE_IMPORTS = {
    "os._exit(0)": "os._exit",
    "raise GeneratorExit": "GeneratorExit",
    "sys.exit(0)": "SystemExit",
    "import ctypes; ctypes.CDLL(None)._exit(0)": "ended the process at its import (exit code 0)",
    "os.kill(os.getpid(), 9)": "ended the process at its import (signal 9)",
}


def test_an_import_that_ends_the_process_is_a_problem_and_no_silent_end(tmp_path):
    words = ["plan", "-m", "msa", "--res", "32", "--dim", "24", "--heads", "3"]
    for number, statement in enumerate(HOSTILE_IMPORTS):
        (tmp_path / f"ends_{number}.py").write_text(f"import os, sys\n{statement}\n")
        words += ["--plugin", str(tmp_path / f"ends_{number}.py")]
    done = subprocess.run(
        [sys.executable, "-m", "attnbench", *words],
        env={**os.environ, "COLUMNS": "1000"}, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0
    for number, reason in enumerate(HOSTILE_IMPORTS.values()):
        (line,) = [line for line in done.stderr.splitlines() if f"ends_{number}.py" in line]
        assert "was left out" in line
        assert reason in line
    assert "cells" in done.stdout


def forking_plugin(folder: Path, *, then: str = "return self.line(x)") -> tuple[Path, Path]:
    """A plugin whose layer starts a program in a session of its own, and the file that gets the program's number."""
    note = folder / "pid"
    body = "import subprocess; p = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
    body += f"        open({str(note)!r}, 'w').write(str(p.pid)); p.returncode = 0; {then}"
    return write_plugin(folder / "forks.py", {"forks": body}), note


def running(pid: str) -> bool:
    """Whether the process runs; one that has been killed and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until(holds: Callable[[], object]) -> None:
    until = time.monotonic() + 200
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_layer_that_leaves_a_program_running_is_dropped_and_the_program_ended(tmp_path):
    plugin, note = forking_plugin(tmp_path)
    records = assert_others_are_whole(
        run(Sweep(mechanism=("msa", "sra", "forks"), plugins=(str(plugin),), **FAST), tmp_path / "r")
    )
    assert records["forks"].outcome == "failed"
    assert "programs left running: sleep" in records["forks"].reason
    assert not running(note.read_text())


@pytest.mark.parametrize("killed", ["runner", "server"])
def test_a_program_that_a_layer_started_ends_also_when_the_runner_or_its_fork_server_is_killed(killed, tmp_path):
    plugin, note = forking_plugin(tmp_path, then="time.sleep(1e6)")
    words = ["run", "-m", "msa,forks", "--res", "32", "--dim", "24", "--heads", "3", "--batch", "1", "--timeout", "60"]
    words += ["--threads", "1", "--protocol", "quick", "--measure", "memory", "--plugin", str(plugin)]
    words += ["--out", str(tmp_path / "r")]
    child = subprocess.Popen([sys.executable, "-m", "attnbench", *words], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: note.exists() and note.read_text())
        (server,) = children(child.pid)
        first = note.read_text()
        os.kill(child.pid if killed == "runner" else server, signal.SIGKILL)
        wait_until(lambda: not running(first))
    finally:
        child.kill()
        child.wait()
    wait_until(lambda: not running(note.read_text()))
