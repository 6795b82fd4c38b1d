"""The journal on a disk that refuses at any byte, and a lock that is a link."""

from __future__ import annotations

import os
import tracemalloc

import pytest

from attnbench import AttnbenchError, registry
from attnbench.errors import UnfinishedError
from attnbench.planning.sweep import Sweep, plan
from attnbench.results.journal import Journal, read_json, read_lines
from attnbench.results.run_facts import RunFacts
from attnbench.results.store import create_or_resume


@pytest.mark.parametrize("taken", [0, 1, 5, 7])
@pytest.mark.parametrize("truncates", [True, False])
@pytest.mark.parametrize("code", [28, 122, 5, 30])  # ENOSPC, EDQUOT, EIO, EROFS
def test_a_line_that_the_disk_refuses_at_any_byte_leaves_a_journal_that_resumes(
    taken, truncates, code, tmp_path, monkeypatch
):
    path, write, truncate = tmp_path / "j", os.write, os.ftruncate
    journal = Journal(path).open()
    journal.append({"n": 1})
    room = [taken]

    def nearly_full(descriptor, data):
        if not room[0]:
            raise OSError(code, os.strerror(code))
        part, room[0] = data[: room[0]], room[0] - len(data[: room[0]])
        return write(descriptor, part)

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "write", nearly_full)
    if not truncates:
        monkeypatch.setattr(os, "ftruncate", refuse)
    with pytest.raises(UnfinishedError, match="cannot be read or written"):
        journal.append({"n": 2})
    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(os, "ftruncate", truncate)
    assert read_lines(path)[0] == [{"n": 1}]
    journal.append({"n": 3})
    journal.close()
    resumed = Journal(path).open()
    assert resumed.lines == [{"n": 1}, {"n": 3}]
    resumed.close()


def test_closing_a_journal_never_raises(tmp_path):
    journal = Journal(tmp_path / "j").open()
    os.close(journal._file)
    journal.close()
    journal.close()


def test_a_lock_that_is_a_link_is_refused_and_what_it_points_to_is_kept(tmp_path):
    planned = plan(Sweep(mechanism=("msa",)), registry.load(entry_points=False))
    victim, folder = tmp_path / "victim", tmp_path / "r"
    victim.write_text("kept")
    folder.mkdir()
    (folder / ".lock").symlink_to(victim)
    with pytest.raises(AttnbenchError, match="is a symbolic link"):
        create_or_resume(folder, planned, RunFacts())
    assert victim.read_text() == "kept"


def test_a_small_file_is_read_without_room_for_the_largest(tmp_path):
    file = tmp_path / "run.json"
    file.write_text('{"schema": 2}')
    tracemalloc.start()
    try:
        assert read_json(file) == {"schema": 2}
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
