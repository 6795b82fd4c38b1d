"""A fork server's account of its jobs, also where one is left early or is killed before it is known."""

from __future__ import annotations

import select
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from plugins import HOSTILE, write_plugin

from attnbench import Sweep, registry
from attnbench.errors import UnfinishedError
from attnbench.execution import fork_server
from attnbench.execution.fork_server import End, ForkServer
from attnbench.execution.jobs import CountJob
from attnbench.planning.sweep import plan
from attnbench.results.events import Count, Done


@pytest.fixture
def job():
    made = plan(Sweep(mechanism=("msa",), dim=(24,), heads=(3,), res=((64, 64),)), registry.load(entry_points=False))
    return CountJob(cell=made.cells[0])


@pytest.mark.parametrize("pause_s", [0.0, 0.5], ids=["at once", "after its end"])
def test_the_end_of_a_job_that_was_left_early_is_not_taken_for_the_next_ones(job, pause_s):
    with ForkServer() as server:
        first = server.do(job, patience_s=60)
        assert isinstance(next(first), Count)
        first.close()
        time.sleep(pause_s)  # its process ends meanwhile, or while the next one begins
        assert [type(event) for event in server.do(job, patience_s=60)] == [Count, Done, End]


class Late(ForkServer):
    """A server whose runner looks at its pipes when the job has long ended: it was stopped meanwhile."""

    def _send(self, words):
        super()._send(words)
        server = self._process.pid
        select.select([self._control.descriptor], [], [])  # the job's process is known
        while Path(f"/proc/{server}/task/{server}/children").read_text():
            time.sleep(0.01)
        time.sleep(0.1)  # until the server has said so


def test_an_end_that_is_read_together_with_the_report_is_not_waited_for_again(job):
    with Late() as server:
        first = server.do(job, patience_s=60)
        assert isinstance(next(first), Count)
        first.close()
        assert not server._running
        assert [type(event) for event in server.do(job, patience_s=60)] == [Count, Done, End]


class Silent:
    """A pipe on which nothing comes: its other end is stopped."""

    descriptor, closed = -1, False

    def read(self):
        return []


def test_the_process_of_an_answer_that_was_taken_is_soon_killed(monkeypatch):
    """A server that was stopped just then is given up before a run's own 240 s are over."""
    clock = [0.0]
    monkeypatch.setattr(fork_server, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    server = object.__new__(ForkServer)
    server._control = server._events = Silent()
    server._running, server.child = True, 0
    server._select = lambda deadline: clock.__setitem__(0, deadline) or []
    with pytest.raises(UnfinishedError, match="could not be killed"):
        server._finish_last()
    assert clock[0] < 1.2 * fork_server._KILL_S


def test_a_job_whose_patience_ends_before_its_process_is_known_is_killed_all_the_same(tmp_path):
    hangs = str(write_plugin(tmp_path / "hangs.py", {"never_returns": HOSTILE["never_returns"]}))
    sweep = Sweep(mechanism=("never_returns",), reference="none", dim=(24,), heads=(3,), plugins=(hangs,))
    cell = plan(sweep, registry.load([hangs], entry_points=False)).cells[0]
    with ForkServer() as server:
        (end,) = server.do(CountJob(cell=cell, plugins=(hangs,)), patience_s=0)
    assert (end.code, end.timed_out) == (-9, True)


@pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")
def test_a_server_imports_the_libraries_of_its_models_and_starts_no_thread_that_a_fork_would_lose():
    code = (
        "import sys, torch; from attnbench.execution import guard, worker; "
        "before = guard.native_threads(), torch.get_num_threads(); "
        "worker._preload(['timm:vit_tiny_patch16_224', 'timm:none', 'nobody:none']); "
        "print('timm' in sys.modules, (guard.native_threads(), torch.get_num_threads()) == before)"
    )
    given = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert given.stdout.split() == ["True", "True"]
