"""What once gave a traceback, a hang or a silent nonsense: now one sentence, exit code 2, at once."""

from __future__ import annotations

import os

import pytest
from commands.test_cli import attnbench

DIGITS = "9" * 5000
LONG_PATH, MANY = "x" * 5000, ",".join(map(str, range(1, 1001)))
REFUSED = {
    "a superscript": ["--res", "²"],
    "5,000 digits": ["--res", DIGITS],
    "400 digits": ["--batch", "9" * 400],
    "Arabic digits": ["--dim", "٧٦٨"],
    "an underscore in a number": ["--batch", "1_0"],
    "a device number of 5,000 digits": ["--device", f"cuda:{DIGITS}"],
    "a superscript as device number": ["--device", "cuda:²"],
    "a size that is no number": ["--memory-limit", "nanGiB"],
    "an infinite size": ["--memory-limit", "1e400GiB"],
    "a target that is no number": ["--target", "nan"],
    "a budget that is no number": ["--budget", "nan"],
    "an infinite budget": ["--budget", "inf"],
    "a timeout that is no number": ["--timeout", "nan"],
    "an infinite timeout": ["--timeout", "inf"],
    "400 digits of a timeout": ["--timeout", "9" * 400],
    "rounds that are too many": ["--rounds", "99999999"],
    "half a round": ["--rounds", "2.5"],
    "a negative seed": ["--seed", "-1"],
    "a seed beyond 63 bits": ["--seed", str(2**63)],
    "more threads than any machine has": ["--threads", "1000000"],
    "a setting that is no number": ["-m", "hilo[alpha=nan]"],
    "an infinite setting": ["-m", "hilo[alpha=1e999]"],
    "a setting of 400 digits": ["-m", f"hilo[window_size={'9' * 400}]"],
    "a setting of 2**60": ["-m", f"hilo[window_size={2**60}]"],
    "a pyramid of a million levels": ["-m", "quadtree[sr_ratio=1000000]", "--reference", "none"],
    "a power of a million": ["-m", "hornet[order=2000000000]", "--reference", "none"],
    "a name of 100,000 letters": ["-m", "a" * 100_000],
    "a setting's name of 90,000 letters": ["-m", f"hilo[{'a' * 90_000}=1]"],
    "10,000 brackets": ["-m", "hilo" + "[a=hilo" * 10_000],
    "a word with control characters": ["--backbone", "litv2_s[attention=\x1b[31mmsa]"],
    "a mechanism in Greek": ["-m", "π"],
    "full-width letters": ["-m", "ｈｉｌｏ"],
    "a setting named self": ["-m", "hilo", "--set", "hilo.self=1"],
    "a setting that is swept twice": ["-m", "hilo", "--set", "hilo.alpha=0", "--set", "hilo.alpha=1"],
    "a million cells": ["--batch", MANY, "--threads", MANY],
    "a long plugin path": ["--plugin", LONG_PATH],
    "a plugin that is a folder": ["--plugin", "."],
    "weights that are not there": ["--weights", "nowhere.pth"],
    "weights that are a folder": ["--weights", "."],
    "a long path of weights": ["--weights", LONG_PATH],
    "a long path of a sweep": ["--sweep", LONG_PATH],
    "a sweep without end": ["--sweep", "/dev/zero"],
    "a sweep that is a device": ["--sweep", "/dev/full"],
    "a sweep that is a folder": ["--sweep", "."],
    "a suite of 50,000 letters": ["--suite", "t" * 50_000],
    "a protocol of 50,000 letters": ["--protocol", "q" * 50_000],
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=list(REFUSED))
def test_it_is_refused_with_a_short_sentence(case, tmp_path):
    done = attnbench("plan", *REFUSED[case], cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert any(word in done.stderr for word in ("must", "got", "has no"))
    assert len(done.stderr) < 2000


@pytest.mark.parametrize("words", [["--out", LONG_PATH], ["--out", ".", "--fresh"], ["--out", "..", "--fresh"]])
def test_a_folder_that_cannot_be_one_is_refused_before_anything_is_measured(words, tmp_path):
    (tmp_path / "inside").mkdir()
    done = attnbench("run", "-m", "msa", *words, cwd=tmp_path / "inside")
    assert done.returncode == 2
    assert len(done.stderr) < 2000


@pytest.mark.parametrize(
    "words",
    [
        ["show", LONG_PATH], ["show", "quadtree[sr_ratio=1000000]"], ["show", "a" * 100_000], ["export", LONG_PATH],
        ["report", LONG_PATH], ["compare", LONG_PATH, "b"], ["compare", ".", "--arms", "msa,hilo", "--margin", "nan"],
        ["claims", LONG_PATH], ["claims", "--claim", "c" * 50_000], ["recommend", "--res", "²"], ["new", "π"],
        ["recommend", "--res", "224", "--batch", "9" * 400], ["recommend", "--res", "224", "--memory", "nanGiB"],
        ["new", "class"], ["new", "n" * 300], ["check", "x.py" + "[" * 90_000], ["check", "msa", "--dim", DIGITS],
        ["selftest", "--trials", "٣"], ["spectrum", "--layer", "²", "--out", "o"], ["list", "--plugin", LONG_PATH],
        ["protocols", "--rounds", DIGITS], ["x" * 50_000], ["run", "--" + "x" * 50_000],
    ],
    ids=lambda words: " ".join(words)[:40],
)  # fmt: skip
def test_other_commands_refuse_too(words, tmp_path):
    done = attnbench(*words, cwd=tmp_path)
    if words[:2] != ["show", "quadtree[sr_ratio=1000000]"]:
        assert done.returncode == 2, done.stdout
    assert len(done.stderr) < 4500


TOML = {
    "a plugin that is a number": "plugin = 1",
    "plugins that are lists": "plugin = [[]]",
    "deep lists": "res = " + "[" * 5000 + "]" * 5000,
    "deep tables": "[set]\nhilo = " + "{a = " * 40 + "1" + "}" * 40,
    "deep keys": "set." + "a." * 40_000 + "b = 1",
    "200,000 resolutions": f"res = [{'224,' * 200_000}]",
    "nested resolutions": "res = [[224, 384]]",
    "a date": "res = 2020-01-01",
    "a number of 5,000 digits": f"batch = {DIGITS}",
    "a target that is no number": "target = nan",
    "an infinite timeout": "timeout = inf",
    "half a round": "rounds = 3.5",
    "two seeds": "seed = [1, 2]",
    "two protocols": 'protocol = ["quick", "paper"]',
    "a switch as rounds": "rounds = true",
    "a key twice by another spelling": "memory-limit = 1\nmemory_limit = 2",
    "an unknown key of 90,000 letters": "a" * 90_000 + " = 1",
    "no UTF-8": "res = '\udcff'",
    "a comma list in a date": "res = [1979-05-27]",
}


@pytest.mark.parametrize("case", TOML, ids=list(TOML))
def test_a_sweep_file_is_refused_with_a_short_sentence(case, tmp_path):
    (tmp_path / "s.toml").write_bytes(TOML[case].encode("utf-8", "surrogateescape"))
    done = attnbench("plan", "-m", "msa", "--sweep", "s.toml", cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert "s.toml" in done.stderr
    assert len(done.stderr) < 2000


def test_a_sweep_that_is_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    done = attnbench("plan", "--sweep", "pipe", cwd=tmp_path)
    assert (done.returncode, "no regular file" in done.stderr) == (2, True)
