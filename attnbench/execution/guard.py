"""Whether an arm left the process as it was: what it changed becomes its outcome, and is put back for the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from attnbench.execution.descendants import end_children, living_children
from attnbench.measure.arm import Arm, ContractError
from attnbench.registry.process_state import ProcessState
from attnbench.results.events import Failure

_LISTED = 4  # changes that a reason names


class Guard:
    """The state of the process, as it is when this is made, before any layer is built.

    Attributes:
        changed: the last arm that failed had changed something, so turns taken after it cannot be trusted.
        beyond_repair: what could not be put back, in words; the process must end. Empty: everything was.
    """

    def __init__(self) -> None:
        self._state = ProcessState()
        self.changed = False
        self.beyond_repair = ""

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
        self.beyond_repair = ", ".join(self._state.put_back())
        if not changes or isinstance(error, ContractError):
            return failure
        return replace(failure, reason=f"{failure.reason}; {_reason(changes)}")

    def _changes(self) -> list[str]:
        """What differs in the process, in words, and the programs that it has started and not waited for."""
        programs = living_children()
        return self._state.changes() + ([f"programs left running: {', '.join(programs)}"] if programs else [])


def _reason(changes: Sequence[str]) -> str:
    more = f" and {len(changes) - _LISTED} more" if len(changes) > _LISTED else ""
    return (
        f"a layer must leave the process as it found it; it changed {'; '.join(changes[:_LISTED])}{more}; "
        "restore it before forward or __init__ returns"
    )
