"""Fork servers that a group's timing processes come from in turn: no two processes of a group share one."""

import pytest
from plugins import write_plugin

from attnbench import Sweep, run
from attnbench.execution import servers
from attnbench.execution.fork_server import ServerEndedError
from attnbench.execution.servers import Servers
from attnbench.machine import linux
from attnbench.planning import protocol
from attnbench.results.store import open_run


class _Fake:
    """A fork server that records what it is asked."""

    own_bytes = 100

    def __init__(self):
        self.ready = self.closed = 0
        self.dead = False

    def wait_until_ready(self):
        if self.dead:
            raise ServerEndedError("gone")
        self.ready += 1

    def close(self):
        self.closed += 1


@pytest.fixture
def started(monkeypatch):
    """The servers that were started, in order."""
    made = []

    def start(sweep, allocator, *, counts=False):
        made.append(_Fake())
        return made[-1]

    monkeypatch.setattr(servers, "start_server", start)
    monkeypatch.setattr(linux, "memory_free", lambda: None)
    return made


def _who(many, group, process):
    return many.get("pinned", many.place_for("pinned", group, process))


def test_the_processes_of_a_group_come_from_one_server_after_another(started):
    many = Servers(Sweep(), 3)
    assert [_who(many, "a", p) for p in range(3)] == started[:3]
    assert [_who(many, "b", p) for p in range(3)] == started[:3]  # another group may have the same
    assert len(started) == 3


def test_a_server_forks_no_second_process_of_a_group(started):
    many = Servers(Sweep(), 2)
    seen = [_who(many, "a", p) for p in range(6)]
    assert seen == started
    assert [server.closed for server in started] == [1, 1, 1, 1, 0, 0]


def test_only_as_many_servers_are_new_as_the_next_look_needs(started):
    many = Servers(
        Sweep(), 4, looks=protocol.get("rigorous", {"processes": 4, "looks": (8, 12)}.items()).processes_at_looks
    )
    assert [_who(many, "a", p) for p in range(6)] == started
    assert [server.closed for server in started] == [1, 1, 0, 0, 0, 0]
    assert [_who(many, "b", p) for p in range(4)] == [started[4], started[5], started[2], started[3]]


def test_arms_in_processes_of_their_own_share_the_server_of_their_number(started):
    many = Servers(Sweep(), 2)
    assert len({id(_who(many, "a", 1)) for _ in range(3)}) == 1
    assert len(started) == 2


def test_one_server_serves_all_where_a_protocol_asks_for_one(started):
    many = Servers(Sweep(), 1)
    assert {id(_who(many, group, p)) for group in "ab" for p in range(4)} == {id(started[0])}
    assert not started[0].closed


def test_nothing_is_timed_while_a_server_starts(started):
    many = Servers(Sweep(), 3)
    many.start_all("pinned")
    assert len(started) == 3
    assert [server.ready for server in started[1:]] == [0, 0]
    many.settle()
    assert all(server.ready for server in started)


def test_a_server_that_ended_while_it_started_is_left_to_its_next_job(started):
    many = Servers(Sweep(), 2)
    many.start_all("pinned")
    started[1].dead = True
    many.settle()
    assert many.get("pinned", 1) is started[1]
    assert many.let_go("pinned", 1) is started[1]
    assert ("pinned", 1) not in many
    many.start_all("pinned")
    assert len(started) == 3


def test_memory_that_is_short_makes_them_fewer_and_never_none(started, monkeypatch):
    monkeypatch.setattr(linux, "memory_free", lambda: 100 * servers.ROOM * 3 + 1)
    many = Servers(Sweep(), 8)
    many.start_all("pinned")
    assert len(started) == 3
    monkeypatch.setattr(linux, "memory_free", lambda: 10)
    many.start_all("tcmalloc")
    assert len(started) == 4


def test_rigorous_alone_asks_for_several_and_a_number_of_them_is_checked():
    assert protocol.get("quick").servers == 1
    assert protocol.get("rigorous").servers == 8
    with pytest.raises(protocol.AttnbenchError, match="servers"):
        protocol.get("quick", {"servers": 0}.items())


_TELLS = """
with open({path!r}, "a") as file:
            print(os.getpid(), os.getppid(), file=file)
        return self.line(x)"""


def test_in_a_run_no_two_timing_processes_of_a_group_have_one_parent(tmp_path):
    path = tmp_path / "parents"
    plugin = write_plugin(tmp_path / "tells.py", {"tells": _TELLS.strip().format(path=str(path))})
    sweep = Sweep(
        mechanism=("msa", "tells"), plugins=(str(plugin),), res=((32, 32),), dim=(24,), heads=(3,),
        measure=("latency",), threads=(1,),
        overrides=(("rounds", 5), ("processes", 5), ("servers", 2), ("prime_s", 0.0), ("turn_s", 0.0)),
    )  # fmt: skip
    found = open_run(run(sweep, tmp_path / "run"))
    assert {record.outcome for record in found.records} == {"ok"}
    parents = dict(line.split() for line in path.read_text().splitlines())
    assert len(set(list(parents.values())[-5:])) == 5
