"""What disturbed a measurement: the conditions of its turns in, warnings out. No torch, no clock.

`FLAGS` declares every word once. The words that are judged here come from conditions; summarizing sets the others.
The estimate over turns tolerates a few disturbed ones, so a condition that comes and goes flags a record only when it
held in more than a fifth of the turns. What the machine does not report is not judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from types import MappingProxyType
from typing import Any

OFTEN = 0.2  # share of the turns
BUSY = 0.10  # share of our CPUs that others, or another virtual machine, took during a turn
TICK_S = 0.01  # the system counts CPU time in ticks of this length
CLOCK = 0.90  # of the fastest turn's clock
SWITCHES_PER_S = 100.0  # involuntary context switches, per CPU second of ours
CANARY = 1.25  # times the canary's usual time
NOISY = 0.05  # standard deviation of an arm's log time between its turns

FLAGS: Mapping[str, str] = MappingProxyType(
    {
        "throttled": "a CPU quota, or the GPU's power, heat or hardware guard, slowed more than a fifth of the turns",
        "throttle_unknown": "the GPU named a throttle reason that this version of attnbench does not know",
        "swapping": "pages came from disk, swapped or mapped from files, in more than a fifth of the turns",
        "busy_machine": "other programs took more than 10 % of our CPUs in more than a fifth of the turns",
        "stolen": "other virtual machines took more than 10 % of our CPUs in more than a fifth of the turns",
        "preempted": "our threads were interrupted over 100 times a CPU second in more than a fifth of the turns",
        "clock_drop": "the clock of CPU or GPU was below 90 % of its fastest turn's in more than a fifth of the turns",
        "slow_canary": "a fixed small computation beside more than a fifth of the turns took over 1.25 times its usual",
        "noisy": "the arm's turns differ by more than 5 % (standard deviation), whatever the cause",
        "foreign_gpu_process": "another process computed on the same GPU",
        "gpu_unread": "NVML gave nothing of the GPU, so its clock, throttling and other processes are unknown",
        "processes_differ": "fresh processes differ more than their rounds explain; the interval allows for it",
        "isolated": "timed in processes of its own (--isolate); the interval holds what differs between processes",
        "few_rounds": "fewer rounds than the protocol asks for",
        "screened": "left out of later rounds under --within, because three arms or more were clearly faster",
        "one_process": "all rounds come from one process, so they share its persistent bias",
        "launch_bound": "the host queues the work more slowly than the GPU does it",
        "above_roofline": "more MACs per second than the greatest measured ceiling: the ceiling or the time is wrong",
        "resumed": "the rounds come from more than one session: the run was interrupted and resumed",
        "no_interval": "one block of calls, as the papers time: no interval can be given",
        "lower_bound": "an operator is not counted, so the true MACs are at least these",
        "fused_in_eager": "the eager kernel was asked for, and a fused attention operator ran; kernel_ran names it",
    }
)

REMEDIES: Mapping[str, str] = MappingProxyType(
    {
        "throttled": "lift the CPU quota, or give the GPU power and cooling",
        "throttle_unknown": "look the GPU's throttle reason up in NVML's manual",
        "swapping": "free memory, or measure smaller cells",
        "busy_machine": "stop other programs",
        "stolen": "use a machine that no other virtual machine shares",
        "preempted": "use fewer --threads",
        "clock_drop": "let the machine cool, or fix its clock",
        "slow_canary": "measure when the machine is quiet",
        "noisy": "measure when the machine is quiet",
        "foreign_gpu_process": "stop the other process on the GPU",
    }
)
"""The flags that say that the machine was disturbed, and what helps."""

Conditions = Mapping[str, float | str]


def disturbed(c: Conditions, *, fastest: Mapping[str, float] = MappingProxyType({}), canary_s: float = 0.0) -> set[str]:
    """The flags that one turn's conditions deserve, if enough turns share them.

    Args:
        c: the conditions, as a device's reading gives them.
        fastest: the highest clocks of the run, by condition (`sm_clock_mhz`, `cpu_clock_mhz`); empty: not judged.
        canary_s: the canary's usual time; 0: not judged.
    """
    own_s, capacity_s = _number(c, "own_cpu_s"), _number(c, "wall_s") * _number(c, "cpus")
    least_s = max(BUSY * capacity_s, 2 * TICK_S + TICK_S / 4 * _number(c, "cpus"))
    reasons = str(c.get("throttle_reasons", "")).split()
    slow = max(_number(c, "canary_before_s"), _number(c, "canary_after_s"))
    words = {
        "throttled": _number(c, "throttled_periods") > 0
        or _number(c, "throttled_s") > 0
        or any(not r.startswith("unknown") for r in reasons),
        "throttle_unknown": any(r.startswith("unknown") for r in reasons),
        "swapping": _number(c, "swap_ins") > 0 or _number(c, "major_faults") > 0,
        "busy_machine": _number(c, "other_cpu_s") > least_s,
        "stolen": _number(c, "steal_s") > least_s,
        "preempted": _number(c, "involuntary_switches") > max(SWITCHES_PER_S * own_s, 5),
        "clock_drop": any(0 < _number(c, name) < CLOCK * clock for name, clock in fastest.items()),
        "slow_canary": slow > CANARY * canary_s > 0,
        "foreign_gpu_process": _number(c, "other_gpu_processes") > 0,
    }
    return {word for word, holds in words.items() if holds}


def usual_canary_s(conditions: Sequence[Conditions]) -> float:
    """The median of the canary's times; 0 where there is none."""
    times = [t for c in conditions for name in ("canary_before_s", "canary_after_s") if (t := _number(c, name)) > 0]
    return median(times) if times else 0.0


def ran_fused(kernel_ran: str) -> bool:
    """Whether the word `kernel_ran` of a record names a fused operator, as in `sdpa:flash_for_cpu x1, math x1`.

    Older runs hold the operators without counts, joined by a plus sign: `sdpa:flash_for_cpu+math`.
    """
    _, _, names = kernel_ran.partition("sdpa:")
    operators = {part.partition(" x")[0] for part in names.replace("+", ", ").split(", ")}
    return bool(operators - {"", "math"})


def flags(conditions: Sequence[Mapping[str, Any]], canary_s: float = 0.0) -> tuple[tuple[str, ...], int]:
    """The words that these turns' conditions deserve, in the order of `FLAGS`, and how many turns were disturbed.

    Args:
        conditions: one mapping a turn, as a device's reading gives them.
        canary_s: the canary's usual time in the whole comparison.
    """
    clocks = ("sm_clock_mhz", "cpu_clock_mhz")
    fastest = {name: max((_number(c, name) for c in conditions), default=0.0) for name in clocks}
    each = [disturbed(c, fastest={k: v for k, v in fastest.items() if v}, canary_s=canary_s) for c in conditions]
    shared = {word for word in FLAGS if sum(word in words for words in each) > OFTEN * len(each)}
    shared |= {"gpu_unread"} if any(c.get("nvml") for c in conditions) else set()
    shared |= {word for word in ("throttle_unknown", "foreign_gpu_process") if any(word in words for words in each)}
    return tuple(word for word in FLAGS if word in shared), sum(map(bool, each))


def advice(flags_of_arms: Sequence[Sequence[str]]) -> str:
    """One sentence on how many arms were disturbed and what to do; empty if none was.

    Args:
        flags_of_arms: the flags of each timed arm.
    """
    counts = {word: sum(word in flags for flags in flags_of_arms) for word in REMEDIES}
    counts = {word: n for word, n in sorted(counts.items(), key=lambda kv: -kv[1]) if n}
    if not counts:
        return ""
    disturbed = sum(any(word in REMEDIES for word in flags) for flags in flags_of_arms)
    total = len(flags_of_arms)
    each = ", ".join(f"{word} {n}" for word, n in counts.items())
    remedies = "; ".join(dict.fromkeys(REMEDIES[word] for word in list(counts)[:2]))
    return (
        f"{disturbed} of {total} timed cell{'s were' if total != 1 else ' was'} disturbed ({each}): {remedies}; then "
        "rerun with --fresh, or with --strict, which takes disturbed turns again. Trust ratios before absolute speeds."
    )


def _number(c: Conditions, name: str) -> float:
    value = c.get(name, 0.0)
    return float(value) if isinstance(value, int | float) else 0.0
