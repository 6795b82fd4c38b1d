"""What a layer's code can change in the process is seen, named and put back."""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import threading
import time

import numpy as np
import pytest
import torch
from tqdm import TMonitor, tqdm

from attnbench.registry import process_state
from attnbench.registry.process_state import ProcessState

CHANGES = {
    "torch's threads": lambda: torch.set_num_threads(3),
    "the default dtype": lambda: torch.set_default_dtype(torch.float64),
    "the default device": lambda: torch.set_default_device("meta"),
    "the grad mode": lambda: torch.set_grad_enabled(False),
    "autocast on cpu": lambda: torch.set_autocast_enabled("cpu", True),
    "the precision of matrix products": lambda: torch.set_float32_matmul_precision("medium"),
    "deterministic algorithms": lambda: torch.use_deterministic_algorithms(True),
    "flush_denormal": lambda: torch.set_flush_denormal(True),
    "torch.backends.mkldnn.enabled": lambda: setattr(torch.backends.mkldnn, "enabled", False),
    "torch.backends.cudnn.benchmark": lambda: setattr(torch.backends.cudnn, "benchmark", True),
    "the math kernel": lambda: torch.backends.cuda.enable_math_sdp(False),
    "a global hook": lambda: torch.nn.modules.module.register_module_forward_hook(lambda *_: None),
    "time.perf_counter was replaced": lambda: setattr(time, "perf_counter", lambda: 0.0),
    "json.dumps was replaced": lambda: setattr(json, "dumps", str),
    "os.write was replaced": lambda: setattr(os, "write", print),
    "torch.manual_seed was replaced": lambda: setattr(torch, "manual_seed", print),
    "torch.nn.functional.linear was replaced": lambda: setattr(torch.nn.functional, "linear", print),
    "signal handlers (15)": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "the signal mask": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]),
    "the working directory": lambda: os.chdir("/"),
    "the umask": lambda: os.umask(0o123),
    "os.environ (ATTNBENCH_A_CHANGE)": lambda: os.environ.update(ATTNBENCH_A_CHANGE="1"),
    "the garbage collector": gc.disable,
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_named_and_put_back(name):
    before = ProcessState()
    assert before.changes() == []
    try:
        CHANGES[name]()
        assert any(change.startswith(name) for change in before.changes())
    finally:
        left = before.put_back()
    assert left == []
    assert before.changes() == []


def test_what_cannot_be_put_back_is_said():
    before, mode = ProcessState(), torch.inference_mode()
    mode.__enter__()
    try:
        assert before.put_back() == ["the inference mode (False -> True)"]
    finally:
        mode.__exit__(None, None, None)
        before.put_back()


def test_random_numbers_may_be_drawn_and_the_generators_are_rewound():
    before = ProcessState()
    first = (random.random(), np.random.rand(), torch.rand(1).item())
    assert before.changes() == []
    before.rewind_random()
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == first


def test_the_thread_of_progress_bars_may_stay_and_a_layers_own_may_not():
    done, before = threading.Event(), ProcessState()
    monitor = TMonitor(tqdm, 10)
    own = threading.Thread(target=done.wait, daemon=True, name="own")
    try:
        assert before.changes() == []
        own.start()
        assert before.changes() == ["threads left behind: own"]
    finally:
        monitor.exit()
        done.set()
        own.join()


class Gpus:
    """Two GPUs' generators, as torch.cuda gives them; CUDA starts when `runs` is set."""

    def __init__(self) -> None:
        self.runs, self.states = False, [torch.tensor([n]) for n in (10, 20)]

    def put(self, state, index):
        self.states[index] = state

    def replace_torch(self, monkeypatch):
        monkeypatch.setattr(process_state, "_cuda_runs", lambda: self.runs)
        monkeypatch.setattr(process_state, "_cuda_devices", lambda: len(self.states))
        monkeypatch.setattr(process_state, "_cuda_state", lambda index: self.states[index].clone())
        monkeypatch.setattr(process_state, "_set_cuda_state", self.put)


def test_the_generators_of_gpus_are_rewound(monkeypatch):
    gpus = Gpus()
    gpus.replace_torch(monkeypatch)
    gpus.runs = True
    before = ProcessState()
    gpus.states[1] += 5  # a layer draws random numbers
    before.rewind_random()
    assert [int(s) for s in gpus.states] == [10, 20]


def test_the_generator_of_a_gpu_that_was_started_later_stays_where_it_is_first_seen(monkeypatch):
    gpus = Gpus()
    gpus.replace_torch(monkeypatch)
    before = ProcessState()
    gpus.runs = True
    gpus.states[0] += 5
    before.rewind_random()
    gpus.states[0] += 5
    before.rewind_random()
    assert [int(s) for s in gpus.states] == [15, 20]
