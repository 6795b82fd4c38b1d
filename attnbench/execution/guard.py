"""Whether an arm left the process as it was: what it changed becomes its outcome, and is put back for the others."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from attnbench.execution.descendants import end_children, living_children
from attnbench.measure.arm import Arm, ContractError
from attnbench.registry.process_state import ProcessState
from attnbench.results.events import Failure

_LISTED = 4  # changes that a reason names
_ENDS_S = 0.02  # a thread that has been joined may still be counted for a moment
_stat, _sleep, _torch_threads = os.stat, time.sleep, torch.get_num_threads  # bound before a plugin can replace them


class Guard:
    """The state of the process, as it is when this is made, before any layer is built.

    Attributes:
        changed: the last arm that failed had changed something, so turns taken after it cannot be trusted.
        beyond_repair: what could not be put back, in words; the process must end. Empty: everything was.
    """

    def __init__(self) -> None:
        self._state = ProcessState()
        self._before = native_threads()
        self._most: int | None = None  # threads of the process; None: not judged
        self.changed = False
        self.beyond_repair = ""

    def settle(self) -> None:
        """The pools of threads that layers compute with have been started: a thread that appears from now on is left.

        A pool may have shrunk for a moment, so it counts with all of torch's threads.
        """
        self._most = max(native_threads(), self._before + _torch_threads() - 1)

    def check(self, arm: Arm | None = None, *, thorough: bool = False) -> None:
        """Compare the process, and the arm's inputs with the originals, after its code ran; rewind random generators.

        `thorough` compares every value of the inputs, and not torch's count of writes and a sample alone.

        Raises:
            ContractError: something differs. It is put back by `failure`.
        """
        changes = self._changes()
        if changes:
            raise ContractError(_reason(changes))
        self._state.rewind_random()
        if arm is not None and arm.changed_inputs(thorough=thorough):
            raise ContractError("forward must not write into its input; it changed the input's values; work on a copy")

    def failure(self, failure: Failure, error: BaseException) -> Failure:
        """Put back what an arm that failed has changed; its failure, with what it changed in the reason."""
        changes = self._changes()
        self.changed = bool(changes)
        end_children()
        self.beyond_repair = ", ".join(self._state.put_back() or self._left_threads())
        if not changes or isinstance(error, ContractError):
            return failure
        return replace(failure, reason=f"{failure.reason}; {_reason(changes)}")

    def _changes(self) -> list[str]:
        """What differs in the process, in words, and the programs that it has started and not waited for."""
        programs = living_children()
        if programs:
            return [*self._state.changes(), f"programs left running: {', '.join(programs)}"]
        return self._state.changes() or self._left_threads()

    def _left_threads(self) -> list[str]:
        """Threads that Python did not start, in words."""
        if self._most is None or native_threads() <= self._most:
            return []
        _sleep(_ENDS_S)
        left = native_threads() - self._most
        return [f"threads left behind: {left} of native code"] if left > 0 else []


def native_threads() -> int:
    """The threads of this process, Python's and others; 0 where the system does not say."""
    try:
        return _stat("/proc/self/task").st_nlink - 2  # a folder for each
    except OSError:
        return 0


def _reason(changes: Sequence[str]) -> str:
    more = f" and {len(changes) - _LISTED} more" if len(changes) > _LISTED else ""
    return (
        f"a layer must leave the process as it found it; it changed {'; '.join(changes[:_LISTED])}{more}; "
        "restore it before forward or __init__ returns"
    )
