"""Standard streams that are closed, full or broken: a sentence where one can be written, and a documented exit code."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIST = f"{sys.executable} -m attnbench list"
COUNT = (
    f"{sys.executable} -m attnbench run -m msa --measure params --res 32 --dim 24 --heads 3 --batch 1 --threads 1 "
    "--protocol quick"
)


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (f"{LIST} <&- >&- 2>&-", 0, ""),
        (f"{COUNT} --out r <&- >&- 2>&-", 0, ""),
        (f"{LIST} >/dev/full", 4, "the output cannot be written: No space left on device"),
        (f"{LIST} >/dev/full 2>/dev/full", 4, ""),
        (f"{COUNT} --out t 2>/dev/full", 0, ""),
        (f"{COUNT} --out t 2> >(head -c 1 >/dev/null)", 0, ""),
        (f"{COUNT} --out t >/dev/full", 4, "what was measured is kept"),
        (f"{LIST} --nothing 2>/dev/full", 2, ""),
    ],
)
def test_a_stream_that_takes_nothing_gives_a_documented_code_and_no_traceback(line, code, said, tmp_path):
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=tmp_path, timeout=200)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert said in done.stderr
    if " t " in line:
        assert '"outcome":"ok"' in (tmp_path / "t" / "records.jsonl").read_text()


def test_a_reader_that_closes_its_pipe_is_no_verdict(tmp_path):
    line = f"{LIST} | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=tmp_path, timeout=200)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("limit", ["-v 12000000", "-f 64"])
def test_a_lower_limit_of_the_shell_is_respected(limit, tmp_path):
    done = subprocess.run(
        ["bash", "-c", f"ulimit {limit}; {COUNT} --out r -q"], capture_output=True, text=True, cwd=tmp_path, timeout=200
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert '"outcome":"ok"' in (tmp_path / "r" / "records.jsonl").read_text()
