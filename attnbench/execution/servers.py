"""A sweep -> the fork servers that its layers need, and those that are started before the sweep is planned."""

from __future__ import annotations

from dataclasses import dataclass

from attnbench import runtimes
from attnbench.execution.fork_server import ForkServer
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
