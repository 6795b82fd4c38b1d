"""What a step works with: the device, its sizes, the output folder, and the tool as a user calls it. No torch."""

from __future__ import annotations

import ctypes
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attnbench.results.events import Event, Trial
from attnbench.results.record import Record
from attnbench.results.store import open_run, read_events

ROOT = Path(__file__).resolve().parents[2]
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
TINY = ("--dim", "24", "--heads", "3", "--batch", "1")


def die_with_parent() -> None:
    """In a child that was forked just now: end when the parent does, however it ends. Linux only."""
    if _LIBC is not None:
        _LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


@dataclass(frozen=True, kw_only=True)
class ToolRun:
    """One `attnbench run`: its exit code and its run folder."""

    code: int
    folder: Path

    @property
    def records(self) -> list[Record]:
        """The records; empty where the run left none."""
        return open_run(self.folder).records if (self.folder / "run.json").exists() else []

    @property
    def events(self) -> list[Event]:
        """The journal."""
        return list(read_events(self.folder)) if (self.folder / "run.json").exists() else []

    def call_s(self) -> dict[str, float]:
        """Seconds of a call in each cell's trial, by cell id."""
        return {e.cell: e.call_s for e in self.events if isinstance(e, Trial)}

    def outcomes(self) -> dict[str, str]:
        """Outcome by variant; of a variant with several cells, the last that is not `ok`."""
        found: dict[str, str] = {}
        for record in self.records:
            if found.get(record.cell.variant, "ok") == "ok":
                found[record.cell.variant] = record.outcome
        return found


@dataclass(kw_only=True)
class Context:
    """Where and how large a step measures.

    Attributes:
        device: as `--device` of the tool takes it. `out`: the folder of the whole proof.
        tiny: small layers and few rounds, for a look at the steps themselves.
        memory: the GPU memory that is emulated, as `--memory-limit` takes it.
        fresh: runs that are complete are measured again.
        commands: what the step has run so far.
    """

    device: str
    out: Path
    tiny: bool
    memory: str
    fresh: bool = False
    step: str = ""
    commands: list[str] = field(default_factory=list)

    @property
    def on_cpu(self) -> bool:
        """Whether the device is the CPU, where questions about a driver do not arise."""
        return self.device.startswith("cpu")

    def tool(self, name: str, *words: str, device: str = "") -> ToolRun:
        """`attnbench run` with these words, into a run folder of this name; a run that was begun is resumed."""
        folder = self.out / "runs" / name
        words = ("--device", device or self.device, *words, *(["--fresh"] if self.fresh else []))
        code = self.execute([sys.executable, "-m", "attnbench", "run", *words, "--out", str(folder), "--quiet"])
        return ToolRun(code=code, folder=folder)

    def sizes(self, tiny: Sequence[str], full: Sequence[str]) -> tuple[str, ...]:
        """The words for this size; tiny layers have 24 channels in 3 heads, full ones are the paper's."""
        return (*TINY, *tiny) if self.tiny else tuple(full)

    def execute(self, command: Sequence[str], cwd: Path | None = None) -> int:
        """Run a command with its output in the step's log; its exit code."""
        shown = ["python" if word == sys.executable else word for word in command]
        self.commands.append(shlex.join(shown))
        with self.log.open("ab") as log:
            return subprocess.run(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=cwd, preexec_fn=die_with_parent
            ).returncode

    @property
    def log(self) -> Path:
        """Everything that the step's commands printed."""
        path = self.out / "logs" / f"{self.step}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
