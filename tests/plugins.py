"""Plugins that tests write to a temporary folder: well-behaved, and hostile in eight ways."""

from __future__ import annotations

from pathlib import Path

HEAD = """
import os, sys, threading, time
import torch
from torch import nn
from attnbench import mechanism

class Base(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.line = nn.Linear(dim, dim)
"""

HOSTILE = {
    "raises": "raise RuntimeError('the layer says no')",
    "wrong_shape": "return self.line(x)[:, :-1]",
    "gives_nan": "return self.line(x) * float('nan')",
    "never_returns": "time.sleep(1e6)",
    "eats_memory": "self.kept = [torch.ones(64 << 20) for _ in range(10**6)]; return x",
    "kills_itself": "os.kill(os.getpid(), 9)",
    "calls_exit": "sys.exit(5)",
    "leaves_a_thread": "threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start(); return self.line(x)",
}
WORDY = "print('x' * (1 << 20)); return self.line(x)"


def write_plugin(path: Path, bodies: dict[str, str]) -> Path:
    """Write a plugin whose layers have these forward bodies."""
    text = HEAD
    for name, body in bodies.items():
        text += f"\n@mechanism(name={name!r})\nclass L_{name}(Base):\n    def forward(self, x):\n        {body}\n"
    path.write_text(text)
    return path
