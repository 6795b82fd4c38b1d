"""The counts of campaigns: stored as JSON, one entry a campaign, and summed in docs/reliability.md.

An entry that is marked `superseded` by hand found a defect, or ran before a defect was mended: it is told apart.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from attnbench.machine import environment
from injection.campaign import IN_PROCESS, Campaign, Tally
from injection.kinds import kinds
from injection.session import GRACE_S, ROOT, STARTS

Entry = dict[str, Any]


def entry(campaign: Campaign, words: str) -> Entry:
    """A campaign as plain data, with the machine, the versions and the command that gave it."""
    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    made = environment.describe(("cpu",))
    return {
        "date": time.strftime("%Y-%m-%d"), "machine": made.machine_label, "torch": environment.torch_version(),
        "commit": commit.strip(), "words": words, "runs": campaign.runs, "sessions": campaign.sessions,
        "tallies": {name: asdict(tally) for name, tally in campaign.tallies.items()}, "details": campaign.details,
    }  # fmt: skip


def add(file: Path, new: Entry) -> list[Entry]:
    """The campaigns of a file with a further one, which is written to it."""
    entries: list[Entry] = json.loads(file.read_text()) if file.exists() else []
    entries.append(new)
    file.write_text(json.dumps(entries, indent=1) + "\n")
    return entries


def summed(entries: Sequence[Entry]) -> dict[str, Tally]:
    """The counts by kind over all campaigns; the journal alone, which has no chance in it, as the last one gave it."""
    total: dict[str, Tally] = {}
    for one in entries:
        for name, counts in one["tallies"].items():
            if name == IN_PROCESS:
                total[name] = Tally(**counts)
            else:
                total[name] = _sum([total.get(name, Tally()), Tally(**counts)])
    return total


def table(tallies: dict[str, Tally]) -> str:
    """The counts as a table in Markdown."""
    rows: dict[str, Tally] = {}
    order = [*kinds(), IN_PROCESS]
    for name in sorted(tallies, key=order.index):
        row = _row_name(name)
        rows[row] = _sum([rows.get(row, Tally()), tallies[name]])
    shown = {**{f"`{n}`" if "/" in n or "&" in n else n: t for n, t in rows.items() if n != IN_PROCESS}}
    shown["**all faults in real runs**"] = _sum([t for name, t in rows.items() if name != IN_PROCESS])
    if IN_PROCESS in rows:
        shown["faults of the journal alone, at every byte"] = rows[IN_PROCESS]
    head = ("fault", "injected", "lost", "doubled", "changed", "wrong end", "left running", "not finished")
    text = f"| {' | '.join(head)} |\n| --- |{' ---: |' * (len(head) - 1)}\n"
    for name, tally in shown.items():
        text += f"| {name} | {' | '.join(str(getattr(tally, f.name)) for f in fields(Tally))} |\n"
    return text


def page(entries: Sequence[Entry]) -> str:
    """The page in docs/."""
    current = [one for one in entries if not one.get("superseded")]
    earlier = [one for one in entries if one.get("superseded")]
    tallies = summed(current)
    return PAGE.format(
        real=injected(current), alone=tallies.get(IN_PROCESS, Tally()).injected, table=table(tallies),
        problems=problems(current) or " nothing.", runs=sum(one["runs"] for one in current),
        sessions=sum(one["sessions"] for one in current), grace=GRACE_S, starts=STARTS, campaigns=listed(current),
        earlier=EARLIER.format(
            real=injected(earlier), number=len(earlier), problems=problems(earlier), campaigns=listed(earlier)
        ) if earlier else "",
    )  # fmt: skip


def injected(entries: Sequence[Entry]) -> int:
    """Faults in real runs."""
    return sum(t["injected"] for one in entries for name, t in one["tallies"].items() if name != IN_PROCESS)


def problems(entries: Sequence[Entry]) -> str:
    """What was not as it should be, as a list, with what was written by hand about causes and corrections."""
    details = Counter(" ".join(detail.split()) for one in entries for detail in one["details"])
    seen = [f"{number} x {text}" for text, number in details.items()]
    seen += [remark for one in entries for remark in one.get("remarks", ())]
    return "".join(f"\n- {line}" for line in seen)


def listed(entries: Sequence[Entry]) -> str:
    """The campaigns as a table in Markdown."""
    rows = "| date | commit | machine | torch | arguments | faults | runs | starts |\n"
    rows += "| --- | --- | --- | --- | --- | ---: | ---: | ---: |\n"
    for one in entries:
        rows += f"| {one['date']} | {one['commit']} | {one['machine']} | {one['torch']} | `{one['words']}` "
        rows += f"| {injected([one])} | {one['runs']} | {one['sessions']} |\n"
    return rows


def _sum(tallies: Sequence[Tally]) -> Tally:
    return Tally(**{f.name: sum(getattr(t, f.name) for t in tallies) for f in fields(Tally)})


def _row_name(name: str) -> str:
    """The row of the table that a kind is counted in."""
    return "disk of 4 to 64 KiB, in steps of 4" if name.startswith("disk of") else name


PAGE = """# Faults

From `make faults`, which adds each campaign to `benchmarks/faults.json` and writes this page from all of them.

{real} faults were injected at random instants into {runs} real runs (`attnbench run` on small layers, {sessions} starts
of the command), and {alone} into the journal alone, in one process: a refusal at every byte with each of four errors, and a torn
end at every byte. After each session of a run the folder is compared with what it held before, and the same command is
started again, until it has finished the run; then the records are compared with the plan.

- **injected**: faults that came about. A signal may hit a run that is starting, trying, timing or ending.
- **lost**, **doubled**, **changed**: records, or events of the journal, that were on the disk before the fault.
- **wrong end**: an exit code that is not documented (or is not the signal's), a traceback, or a record whose outcome or
  reason the fault does not explain.
- **left running**: processes of the run that lived {grace:g} s after it.
- **not finished**: the same command did not end by itself, or did not finish the run in {starts} starts without
  a fault.

{table}
What was not as it should be:{problems}

## The campaigns

{campaigns}{earlier}
## What the rows mean

| rows | fault |
| --- | --- |
| a signal *of the worker*, *server*, *runner*, *group* | sent to the process of a job, to its fork server, to the command itself, or to the process group of command and server. A stopped runner or group is killed after a while |
| *disk refuses* | the system refuses to write after a random number of bytes of records and journal; RLIMIT_FSIZE: a limit on the size of every file |
| *disk of ... KiB* | a run in a file system of that size, enlarged afterwards |
| *folder* | deleted or renamed during the run (and renamed back), or read-only when the command starts. What a deleted folder held is measured again |
| *wall clock set* | `time.time` and `datetime` jump by up to 30 years, in every process |
| *memory* | a `--memory-limit` of some KiB; a limit on the address space of every process |
| *hostile layers* | plugins that raise, exit, hang, allocate without end, kill their process, forge messages, or change what layers share; `msa` and `sra` beside them must be whole |
| *programs left behind* | a layer starts programs in sessions of their own, and worker, server or runner is killed |
| *stream* | a standard stream that is closed or full from the start, or whose reader or terminal goes away |
| *records*, *journal* | between two sessions the end of the file is torn, or random bytes, zero bytes, a copied or an alien line are added, a line is damaged, or the file is deleted. A line that the command refuses with its number is deleted, as its message says |

## What is not covered

The kernel's out-of-memory killer is represented by SIGKILL, a power cut by torn ends and zero bytes; a disk that loses
bytes which it acknowledged is not represented. SIGKILL of the runner and its fork server at the same instant leaves
nobody to end a program that a layer had started in a session of its own. A line that was changed into another valid
one is not noticed: lines carry no checksums.
"""  # noqa: E501

EARLIER = """
## What earlier campaigns found

{real} faults in {number} campaigns came before the last correction, and are not in the table above. What they found:
{problems}

{campaigns}"""
