from __future__ import annotations

import gc

import pytest

from attnbench.machine.devices import Turn
from attnbench.measure import latency


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeDevice:
    """Work is queued by a call and takes its time when the device is waited for."""

    name = "fake"

    def __init__(self, clock: Clock, call_s: float) -> None:
        self.clock, self.call_s, self.queued, self.done = clock, call_s, 0, 0
        self.asked: list[tuple[int, bool]] = []
        self.collecting: list[bool] = []

    def call(self) -> None:
        self.queued += 1

    def synchronize(self) -> None:
        self.clock.now += self.call_s * self.queued
        self.done += self.queued
        self.queued = 0

    def time_calls(self, call, calls, *, cold=False):
        self.asked.append((calls, cold))
        self.collecting.append(gc.isenabled())
        for _ in range(calls):
            call()
        self.synchronize()
        return Turn((self.call_s,) * calls, self.call_s, self.call_s)


def fake(call_s: float) -> tuple[FakeDevice, Clock]:
    clock = Clock()
    return FakeDevice(clock, call_s), clock


@pytest.mark.parametrize(("call_s", "calls"), [(0.004, 12), (0.02, 2), (0.025, 1), (0.03, 1), (0.5, 1)])
def test_an_arm_is_primed_by_as_many_calls_as_fit_into_the_time_and_at_least_one(call_s, calls):
    device, clock = fake(call_s)
    assert latency.prime(device, device.call, clock=clock) == calls
    assert device.done == calls


def test_priming_waits_for_the_device_after_each_call():
    device, clock = fake(0.0625)
    latency.prime(device, device.call, 0.25, 2, clock=clock)
    assert device.queued == 0
    assert clock.now == 0.1875  # a fourth call would end with the time and not before it


def test_a_slow_first_call_does_not_end_the_priming_of_a_short_one():
    device, clock = fake(0.004)
    calls = iter([0.016, *[0.004] * 50])

    def call() -> None:
        device.call_s = next(calls)
        device.call()

    assert latency.prime(device, call, clock=clock) == 9


def test_a_call_that_takes_no_time_is_primed_a_finite_number_of_times():
    device, clock = fake(0.0)
    assert latency.prime(device, device.call, clock=clock) == 10_000


def test_no_primer_where_none_is_asked_for():
    device, clock = fake(0.01)
    assert latency.prime(device, device.call, 0.0, 0, clock=clock) == 0


@pytest.mark.parametrize("cold", [False, True])
def test_a_turn_is_the_asked_number_of_calls_and_no_more(cold):
    device, _ = fake(0.01)
    turn = latency.turn(device, device.call, 3, cold=cold)
    assert turn == Turn((0.01, 0.01, 0.01), 0.01, 0.01)
    assert device.asked == [(3, cold)]
    assert device.done == 3


def test_the_garbage_collector_rests_during_a_turn_and_works_after_it():
    device, _ = fake(0.01)
    assert gc.isenabled()
    latency.turn(device, device.call, 1)
    assert device.collecting == [False]
    assert gc.isenabled()


def test_the_garbage_collector_works_again_after_a_failed_turn():
    device, _ = fake(0.01)

    def broken() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        latency.turn(device, broken, 1)
    assert gc.isenabled()


def test_a_garbage_collector_that_rested_before_stays_at_rest():
    device, _ = fake(0.01)
    gc.disable()
    try:
        latency.turn(device, device.call, 1)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_turn_without_calls_is_refused():
    device, _ = fake(0.01)
    with pytest.raises(ValueError, match="at least one timed call; got calls=0"):
        latency.turn(device, device.call, 0)
