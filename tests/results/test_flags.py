from __future__ import annotations

import pytest

from attnbench.machine import counters, linux
from attnbench.results.flags import FLAGS, REMEDIES, advice, disturbed, usual_canary_s
from attnbench.results.flags import flags as judge

QUIET = {
    "wall_s": 1.0, "own_cpu_s": 2.0, "cpus": 2.0, "other_cpu_s": 0.02, "involuntary_switches": 3.0, "major_faults": 0.0,
    "throttled_periods": 0.0, "swap_ins": 0.0, "load_1min": 2.0, "steal_s": 0.0, "cpu_clock_mhz": 3000.0,
}  # fmt: skip
GPU = {"sm_clock_mhz": 1980.0, "temperature_c": 60.0, "throttle_reasons": "", "other_gpu_processes": 0.0}


def flags(conditions, canary_s=0.0):
    return judge(conditions, canary_s)[0]


def test_quiet_rounds_deserve_no_word():
    assert flags([QUIET] * 16) == ()
    assert flags([{**QUIET, **GPU}] * 16) == ()


def test_what_is_unknown_is_not_judged():
    assert flags([{}] * 16) == ()
    assert flags([]) == ()


DISTURBED = [
    ("throttled", {"throttled_periods": 1.0}),
    ("throttled", {"throttle_reasons": "thermal_hardware"}),
    ("throttled", {"throttled_s": 0.01}),
    ("stolen", {"steal_s": 0.21}),
    ("clock_drop", {"cpu_clock_mhz": 2000.0}),
    ("swapping", {"swap_ins": 4.0}),
    ("swapping", {"major_faults": 1.0}),
    ("busy_machine", {"other_cpu_s": 0.21}),
    ("preempted", {"involuntary_switches": 201.0}),
    ("clock_drop", {"sm_clock_mhz": 1700.0}),
]


@pytest.mark.parametrize(("word", "change"), DISTURBED)
def test_a_disturbance_flags_when_it_held_in_more_than_a_fifth_of_the_rounds(word, change):
    bad = {**QUIET, **GPU, **change}
    good = {**QUIET, **GPU}
    assert flags([bad] * 4 + [good] * 12) == (word,)
    assert flags([bad] * 3 + [good] * 12) == ()  # 3 of 15 is a fifth and not more
    assert judge([bad] * 3 + [good] * 12)[1] == 3


def test_another_process_on_the_gpu_flags_from_its_first_round_on():
    assert flags([{**QUIET, **GPU, "other_gpu_processes": 1.0}] + [{**QUIET, **GPU}] * 15) == ("foreign_gpu_process",)


def test_a_gpu_of_which_nothing_was_read_is_flagged_and_its_turns_are_not_disturbed():
    assert judge([{"nvml": "nvidia-ml-py is not installed"}] * 3) == (("gpu_unread",), 0)


def test_an_unknown_throttle_reason_is_unknown_and_not_good():
    assert flags([{**GPU, "throttle_reasons": "unknown_0x10000"}] * 4) == ("throttle_unknown",)
    assert flags([{**GPU, "throttle_reasons": "unknown_0x10000 power_cap"}] * 4) == ("throttled", "throttle_unknown")


@pytest.mark.parametrize(
    "near", [{"other_cpu_s": 0.19}, {"involuntary_switches": 199.0}, {"sm_clock_mhz": 1783.0}, {"load_1min": 40.0}]
)
def test_below_the_threshold_is_quiet(near):
    assert flags([{**QUIET, **GPU, **near}] * 4 + [{**QUIET, **GPU}]) == ()


def test_one_tick_of_another_process_in_a_short_round_is_no_busy_machine():
    assert flags([{**QUIET, "wall_s": 0.02, "other_cpu_s": 0.01}] * 16) == ()


def test_words_come_in_the_order_of_their_declaration_and_all_are_declared():
    every = {**QUIET, **GPU, "throttled_periods": 1.0, "swap_ins": 1.0, "other_cpu_s": 2.0, "other_gpu_processes": 1.0}
    found = flags([every] * 5)
    assert found == ("throttled", "swapping", "busy_machine", "foreign_gpu_process")
    assert set(found) <= set(FLAGS)


def test_the_words_that_the_runner_sets_have_meanings_too():
    runners = {
        "processes_differ", "few_rounds", "one_process", "launch_bound", "resumed", "no_interval",
        "lower_bound", "noisy", "above_roofline",
    }  # fmt: skip
    assert runners <= set(FLAGS)
    assert all(meaning and not meaning.endswith(".") for meaning in FLAGS.values())


def instant(**changes):
    start = {
        "wall_s": 10.0, "own_cpu_s": 5.0, "busy_s": 100.0, "involuntary": 7, "major_faults": 2, "throttled": 1,
        "swap_ins": 30, "cpus": (0, 1),
    }  # fmt: skip
    return counters.Counters(**{**start, **changes})


def test_the_conditions_of_a_round_are_differences_of_its_counters():
    end = instant(wall_s=11.0, own_cpu_s=6.5, busy_s=101.8, involuntary=9, major_faults=3, throttled=4, swap_ins=31)
    found = instant().until(end)
    assert found.pop("other_cpu_s") == pytest.approx(0.3)
    assert found == {
        "wall_s": 1.0, "own_cpu_s": 1.5, "cpus": 2.0, "involuntary_switches": 2.0, "major_faults": 1.0,
        "throttled_periods": 3.0, "swap_ins": 1.0,
    }  # fmt: skip


def test_steal_is_apart_from_what_other_programs_take():
    end = instant(wall_s=11.0, own_cpu_s=6.0, busy_s=101.0, steal_s=3.5, throttled_s=2.5, pressure_s=9.0, clock_mhz=2.0)
    found = instant(steal_s=3.0, throttled_s=2.0, pressure_s=8.5).until(end)
    assert (found["steal_s"], found["other_cpu_s"], found["throttled_s"]) == (0.5, 0.0, 0.5)
    assert (found["cpu_pressure_s"], found["cpu_clock_mhz"]) == (0.5, 2.0)


def test_a_slow_canary_flags_the_turns_that_it_stood_beside():
    quick, slow = ({"canary_before_s": 1e-3, "canary_after_s": s} for s in (1.1e-3, 1.3e-3))
    assert usual_canary_s([quick, quick, slow]) == pytest.approx(1.05e-3)
    assert disturbed(slow, canary_s=1e-3) == {"slow_canary"}
    assert disturbed(quick, canary_s=1e-3) == set()
    assert disturbed(slow) == set()
    assert judge([slow] * 2 + [quick] * 6, 1e-3) == (("slow_canary",), 2)


def test_a_busy_core_is_seen_in_a_turn_of_eighty_milliseconds():
    turn = {"wall_s": 0.08, "own_cpu_s": 0.1, "cpus": 2.0, "other_cpu_s": 0.05}
    assert disturbed(turn) == {"busy_machine"}
    assert disturbed({**turn, "other_cpu_s": 0.02}) == set()  # two ticks are the resolution of two CPUs


def test_cpu_pressure_and_clock_are_read(root):
    folder, write = root
    write("proc/pressure/cpu", "some avg10=0.00 avg60=0.12 avg300=0.05 total=2500000\nfull avg10=0 total=7\n")
    write("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "3000000\n")
    write("sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "2000000\n")
    assert counters.cpu_pressure_s(folder) == 2.5
    assert counters.clock_mhz((0, 1), folder) == 2500.0
    assert counters.clock_mhz((7,), folder) is None


def test_ticks_that_lag_behind_make_no_negative_time_of_others():
    assert instant().until(instant(wall_s=11.0, own_cpu_s=7.0, busy_s=101.0))["other_cpu_s"] == 0.0


def test_a_system_that_does_not_tell_leaves_conditions_out():
    nothing = instant(busy_s=None, involuntary=None, major_faults=None, throttled=None, swap_ins=None)
    assert set(nothing.until(nothing)) <= {"wall_s", "own_cpu_s", "cpus", "load_1min"}


def test_a_reading_of_this_machine_gives_the_round_that_it_lasted():
    found = counters.HostReading().finish()
    assert found["wall_s"] > 0
    assert found["cpus"] >= 1
    assert set(flags([found])) <= set(FLAGS)


@pytest.fixture
def root(tmp_path):
    def write(path: str, text: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    return tmp_path, write


def test_busy_time_counts_our_cpus_alone_and_what_a_hypervisor_took(root):
    folder, write = root
    write(
        "proc/stat",
        "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 10 50 900 5 1 2 37 0 0\ncpu1 1000 0 0 0 0 0 0 0 0 0\n",
    )
    ticks = linux.TICKS
    assert counters.busy_and_steal_s((0,), folder) == pytest.approx((163 / ticks, 37 / ticks))
    assert counters.busy_and_steal_s((0, 1), folder) == pytest.approx((1163 / ticks, 37 / ticks))
    assert counters.busy_and_steal_s((5,), folder) == (None, None)


def test_control_groups_of_version_2_are_read_up_to_the_root(root):
    folder, write = root
    write("proc/self/cgroup", "0::/a/b\n")
    write("sys/fs/cgroup/a/cpu.max", "150000 100000\n")
    write("sys/fs/cgroup/a/b/cpu.max", "max 100000\n")
    write("sys/fs/cgroup/a/b/cpu.stat", "usage_usec 5\nnr_periods 9\nnr_throttled 4\n")
    write("sys/fs/cgroup/a/cpu.stat", "nr_throttled 3\n")
    write("sys/fs/cgroup/a/memory.max", "1000000\n")
    write("sys/fs/cgroup/a/memory.current", "700000\n")
    write("sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 200000\n")
    write("sys/fs/cgroup/a/b/memory.max", "max\n")
    write("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n")
    assert linux.cpu_quota(folder) == 1.5
    assert counters.throttling(folder) == (7, None)
    assert linux.memory_limit(folder) == 1_000_000
    assert linux.memory_free(folder) == 500_000


def test_control_groups_of_version_1_are_read(root):
    folder, write = root
    write("proc/self/cgroup", "4:memory:/job\n1:cpu,cpuacct:/job\n0::/\n")
    write("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "250000\n")
    write("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n")
    write("sys/fs/cgroup/cpu,cpuacct/job/cpu.stat", "nr_periods 0\nnr_throttled 2\nthrottled_time 0\n")
    write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n")
    write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "4096000\n")
    write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "1096000\n")
    write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    write("proc/meminfo", "MemAvailable: 8000000 kB\n")
    assert linux.cpu_quota(folder) == 2.5
    assert counters.throttling(folder) == (2, 0.0)
    assert linux.memory_limit(folder) == 4_096_000
    assert linux.memory_free(folder) == 3_000_000
    write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "9223372036854771712\n")
    assert linux.memory_limit(folder) is None


def test_a_system_without_these_files_tells_nothing(tmp_path):
    assert linux.cpu_quota(tmp_path) is None
    assert counters.throttling(tmp_path) == (None, None)
    assert linux.memory_limit(tmp_path) is None
    assert linux.memory_free(tmp_path) is None
    assert counters.busy_and_steal_s((0,), tmp_path) == (None, None)
    assert linux.physical_cores((0,), tmp_path) is None
    assert linux.last_level_cache_bytes(tmp_path) is None


def test_hardware_threads_of_one_core_are_one_core(root):
    folder, write = root
    for cpu, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        write(f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", siblings)
    assert linux.physical_cores((0, 1, 2, 3), folder) == 2
    assert linux.physical_cores((0, 2), folder) == 1


def test_the_largest_cache_is_the_last_level(root):
    folder, write = root
    for index, size in enumerate(["32K", "1024K", "32M"]):
        write(f"sys/devices/system/cpu/cpu0/cache/index{index}/size", size)
    assert linux.last_level_cache_bytes(folder) == 32 << 20


def test_every_flag_with_a_remedy_is_declared():
    assert set(REMEDIES) <= set(FLAGS)


def test_advice_counts_cells_and_not_flags():
    text = advice([("stolen", "noisy"), (), ("stolen",), ("resumed",)])
    assert text.startswith("2 of 4 timed cells were disturbed (stolen 2, noisy 1): use a machine that no other")
    assert advice([("resumed",), ()]) == ""
    assert advice([]) == ""
