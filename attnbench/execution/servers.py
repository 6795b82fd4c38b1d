"""A sweep -> the fork servers that its layers need, and those that are started before the sweep is planned.

Processes of one server share its address-space layout, and may share a bias with it, which no number of them averages
out. Where a protocol asks for several servers, the timing processes of a group come from one after another.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from attnbench import runtimes
from attnbench.execution.fork_server import ForkServer, ServerEndedError
from attnbench.machine import linux
from attnbench.planning.sweep import Sweep
from attnbench.registry.variant import parse_variant


def needs_compiler(sweep: Sweep) -> bool:
    """Whether layers of this sweep run code of torch's compiler; counting and exporting have a server of their own."""
    return bool({*sweep.runtime} & {*runtimes.COMPILED}) or "flex" in sweep.kernel


def start_server(sweep: Sweep, allocator: str, *, counts: bool = False) -> ForkServer:
    """A fork server for the layers of this sweep, which imports what they share while the caller goes on.

    `counts`: for counting and exporting, which need torch's compiler.
    """
    models = sorted({name for text in sweep.backbone if ":" in (name := parse_variant(text).name)})
    return ForkServer(allocator, imports_compiler=counts or needs_compiler(sweep), models=models)


@dataclass(frozen=True)
class EarlyServers:
    """Fork servers that import torch while their sweep is planned; `counting` is None where nothing needs one."""

    timing: ForkServer
    counting: ForkServer | None

    @classmethod
    def start(cls, sweep: Sweep) -> EarlyServers:
        """Start those of the sweep's first allocator.

        Raises:
            AttnbenchError: the allocator's library is not on this machine.
        """
        allocator = sweep.allocator[0]
        counts = {"params", "macs"} & {*sweep.measure} or any(runtimes.get(name).artifact for name in sweep.runtime)
        timing = start_server(sweep, allocator)
        return cls(timing, start_server(sweep, allocator, counts=True) if counts else None)

    def close(self) -> None:
        """End both; a second call does nothing."""
        for server in filter(None, (self.timing, self.counting)):
            server.close()


ROOM = 8  # fork servers together take at most one part in so many of the memory that is free


class Servers:
    """The fork servers of a run, by allocator and place; the one at place 0 also does whatever is not timed.

    Args:
        sweep: what they serve. `counts`: as of `start_server`.
        most: places of an allocator; fewer where memory is short.
        given: servers that were started before, at place 0 of their allocators.
        looks: numbers of processes after which a group may be finished, increasing.
    """

    def __init__(
        self, sweep: Sweep, most: int = 1, given: Mapping[str, ForkServer] | None = None, looks: Sequence[int] = (),
        *, counts: bool = False,
    ) -> None:  # fmt: skip
        self._sweep, self._most, self._looks, self._counts = sweep, most, looks, counts
        self._at = {(allocator, 0): server for allocator, server in (given or {}).items()}
        self._places: dict[str, int] = {}
        self._served: dict[tuple[str, int], dict[str, int]] = {}  # group -> the number of its process
        self._starting: set[str] = set()  # allocators some of whose servers may still import torch

    def __iter__(self) -> Iterator[ForkServer]:
        return iter(list(self._at.values()))

    def __contains__(self, key: tuple[str, int]) -> bool:
        return key in self._at

    def get(self, allocator: str, place: int = 0) -> ForkServer:
        """The server at this place; a new one imports torch while the caller goes on."""
        if (allocator, place) not in self._at:
            self._at[allocator, place] = start_server(self._sweep, allocator, counts=self._counts)
        return self._at[allocator, place]

    def start_all(self, allocator: str) -> None:
        """Start the servers of an allocator that are missing, together; nothing may be timed until `settle`."""
        if self._most > 1:
            first = self.get(allocator)
            if allocator not in self._places:
                with contextlib.suppress(ServerEndedError):  # its next job replaces it
                    first.wait_until_ready()
                self._places[allocator] = min(self._most, _room(first))
            for place in range(self._places[allocator]):
                self.get(allocator, place)
            self._starting.add(allocator)

    def settle(self) -> None:
        """Wait until every server that was started has imported torch: it would be felt in what is timed."""
        while self._starting:
            allocator = self._starting.pop()
            for (name, _), server in list(self._at.items()):
                if name == allocator:
                    with contextlib.suppress(ServerEndedError):
                        server.wait_until_ready()

    def place_for(self, allocator: str, group: str, process: int) -> int:
        """The place of the server that forks this timing process: one that has forked no other of its group."""
        self.start_all(allocator)
        place = process % self._places.get(allocator, 1)
        if self._most > 1 and self._served.get((allocator, place), {}).get(group, process) != process:
            next_look = next((look for look in self._looks if look > process), process + self._most)
            for further in range(min(next_look - process, self._places[allocator])):
                self.let_go(allocator, (place + further) % self._places[allocator]).close()
            self.start_all(allocator)
        self.settle()
        self._served.setdefault((allocator, place), {})[group] = process
        return place

    def let_go(self, allocator: str, place: int) -> ForkServer:
        """Forget the server at this place and return it; the next `get` starts another."""
        self._served.pop((allocator, place), None)
        return self._at.pop((allocator, place))

    def close(self) -> None:
        """End all of them."""
        for server in self:
            server.close()


def _room(server: ForkServer) -> int:
    """How many servers like this one may be; at least 1."""
    free, each = linux.memory_free(), server.own_bytes
    return max(1, free // ROOM // each) if free and each else sys.maxsize
