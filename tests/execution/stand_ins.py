"""A GPU that the CPU stands in for: errors that destroy its context, memory that runs out, graphs that replay."""

from __future__ import annotations

from collections.abc import Callable

from attnbench.machine.devices.cpu import Cpu

OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB"
ASSERT = "CUDA error: device-side assert triggered"


class StandIn(Cpu):
    """The CPU, with a GPU's errors.

    Attributes:
        released: how often memory was given back.
        captured: calls that were captured, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.released = 0
        self.captured: list[Callable[[], object]] = []
        self.replays = 0

    def is_sticky(self, error: BaseException) -> bool:
        """A device assert stays."""
        return ASSERT in str(error)

    def release_memory(self) -> None:
        """Count."""
        self.released += 1

    def capture(self, call: Callable[[], object]) -> Callable[[], object]:
        """Run the call as a capture would; a replay runs nothing, as its results stand where they stood."""
        call()
        self.captured.append(call)

        def replay() -> None:
            self.replays += 1

        return replay
