"""Every kind of fault by its name."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from attnbench.results import store
from injection.disks import DISK, file_size, folder_deleted, folder_moved, read_only, refused, small_disk, two_runners
from injection.files import alien, between_sessions, damaged, deleted, doubled, garbage, torn, zeros
from injection.processes import address_space, clock, hostile_layers, left_behind, memory_limit, signals
from injection.session import SHARED, SMALL, Inject
from injection.streams import reader_leaves, redirected, terminal_leaves


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        share: how often it is drawn; a small one takes long.
        request: of a run of its own, on which nothing else is injected; empty: it shares runs with other kinds.
        costs: outcomes, beside `ok`, that cells may have by this fault.
    """

    inject: Inject
    share: float = 1.0
    request: tuple[str, ...] = ()
    costs: str = ""


def kinds() -> dict[str, Kind]:
    """Every kind of fault by its name."""
    made: dict[str, Kind] = {}
    for target, costs in (("worker", "crashed timeout"), ("server", "crashed timeout"), ("runner", ""), ("group", "")):
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            made[f"{number.name} of the {target}"] = Kind(signals(target, number), costs=costs)
        slow = {"worker": 0.25, "server": 0.1}.get(target, 1.0)
        made[f"SIGSTOP of the {target}"] = Kind(signals(target, signal.SIGSTOP), share=slow, costs=costs)
        made[f"SIGSTOP then SIGCONT of the {target}"] = Kind(signals(target, signal.SIGSTOP, resumed=True))
    made |= {f"disk refuses: {name}": Kind(refused(code)) for name, code in DISK.items()}
    made["disk refuses: RLIMIT_FSIZE"] = Kind(file_size)
    made |= {f"disk of {n} KiB": Kind(small_disk(n), share=0, request=SHARED[0]) for n in range(4, 65, 4)}
    made |= {
        "folder deleted": Kind(folder_deleted),
        "folder renamed": Kind(folder_moved),
        "folder read-only": Kind(read_only),
        "two runners in one folder": Kind(two_runners),
        "wall clock set": Kind(clock),
        "memory: --memory-limit": Kind(memory_limit, share=0.5, request=SMALL, costs="oom"),
        "memory: RLIMIT_AS": Kind(address_space, share=0.5, request=SMALL, costs="oom failed crashed"),
        "hostile layers": Kind(hostile_layers, request=SMALL, costs="oom failed crashed timeout"),
        "programs left behind": Kind(left_behind, request=SMALL, costs="failed crashed timeout"),
    }
    for redirect in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full", ">/dev/full 2>&1"):
        made[f"stream: {redirect}"] = Kind(redirected(redirect), share=0.5)
    made["stream: --json >/dev/full"] = Kind(redirected(">/dev/full", "--json"), share=0.5)
    made["stream: reader of stderr leaves"] = Kind(reader_leaves("stderr"), share=0.5)
    made["stream: reader of stdout leaves"] = Kind(reader_leaves("stdout"), share=0.5)
    made["stream: terminal closed"] = Kind(terminal_leaves(False))
    made["stream: terminal closed under nohup"] = Kind(terminal_leaves(True), share=0.5)
    for damage in (torn, garbage, zeros, doubled, damaged, alien, deleted):
        for name, short in ((store.RECORDS, "records"), (store.SAMPLES, "journal")):
            made[f"{short}: {damage.__name__}"] = Kind(between_sessions(name, damage))
    return made
