"""What a user types, good and bad: sentences, exit codes, nothing lost, no traceback."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from attnbench import cli


def attnbench(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command line in this process, which has imported torch already; an exception fails the test."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd or Path.cwd()),
        mock.patch.object(sys, "argv", ["attnbench", *words]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        cli.main()
    assert isinstance(ended.value.code, int)
    return subprocess.CompletedProcess(words, ended.value.code, out.getvalue(), err.getvalue())


def attnbench_process(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, as a user starts it; what it loads is gone with it."""
    done = subprocess.run(
        [sys.executable, "-m", "attnbench", *words], cwd=cwd, capture_output=True, text=True, timeout=120
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


BAD = {
    "an unknown mechanism": (["-m", "hila"], "nearest: hilo"),
    "an unknown setting": (["-m", "hilo[windw_size=2]"], "did you mean window_size?"),
    "a setting of the wrong type": (["-m", "hilo[alpha=much]"], "hilo.alpha must be a number; got 'much'"),
    "an unknown device": (["-m", "msa", "--device", "abacus"], "device must be"),
    "no CUDA": (["-m", "msa", "--device", "cuda"], "cuda"),
    "an unknown precision": (["-m", "msa", "--precision", "fp8"], "precision must be one of"),
    "resolution 0": (["-m", "msa", "--res", "0"], "each from 1 to 1000000; got '0'"),
    "resolution -3": (["-m", "msa", "--res=-3"], "got '-3'"),
    "an empty item": (["-m", "msa", "--res", "224,"], "no empty item"),
    "letters": (["-m", "msa", "--res", "abc"], "got 'abc'"),
    "a resolution off the stride": (["-m", "msa", "--res", "225"], "nearest: 224x224"),
    "heads that do not divide": (["-m", "msa", "--heads", "7"], "heads must divide dim; got heads=7, dim=768"),
    "batch 0": (["-m", "msa", "--batch", "0"], "batch must be a whole number of at least 1; got 0"),
    "an unknown protocol": (["-m", "msa", "--protocol", "hasty"], "protocol must be one of"),
    "a setting out of range": (["-m", "hilo[alpha=1.5]", "--reference", "none"], "alpha must lie between 0 and 1"),
    "a plugin that is not there": (["--plugin", "nowhere.py"], "not there"),
    "an unknown kernel": (["-m", "msa", "--kernel", "magic"], "kernel must be one of"),
    "no such sweep file": (["--sweep", "nowhere.toml"], "must be a TOML file; got 'nowhere.toml', which is not there"),
    "a reference that is unknown": (["-m", "msa", "--reference", "mas"], "nearest: msa"),
    "an unknown suite": (["--suite", "table44"], "suite must be one of"),
    "an unknown option": (["--resolution", "224"], "No such option"),
}


@pytest.mark.parametrize("case", BAD, ids=list(BAD))
def test_bad_input_gets_a_sentence_and_exit_code_2(case, tmp_path):
    words, sentence = BAD[case]
    done = attnbench("run", *words, "--out", "r", cwd=tmp_path)
    if case == "no CUDA" and done.returncode != 2:
        pytest.skip("this machine has CUDA")
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr.replace("\n", " ")
    assert not (tmp_path / "r").exists()


def test_a_sweep_file_with_an_unknown_key_is_refused_with_the_known_ones(tmp_path):
    (tmp_path / "s.toml").write_text("resolution = 224\n")
    done = attnbench("run", "--sweep", "s.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert "got resolution in s.toml" in done.stderr


def test_the_command_line_beats_the_file_and_the_file_beats_the_default(tmp_path):
    (tmp_path / "s.toml").write_text('mechanism = ["hilo"]\nres = [384]\nbatch = 2\n[set]\n"hilo.alpha" = [0.0, 0.5]\n')
    done = attnbench("plan", "--sweep", "s.toml", "--batch", "3", "--reference", "none", "--json", cwd=tmp_path)
    cells = json.loads(done.stdout)["cells"]
    assert [(c["variant"], c["res_h"], c["batch"]) for c in cells] == [
        ("hilo[alpha=0.0]", 384, 3),
        ("hilo[alpha=0.5]", 384, 3),
    ]


@pytest.mark.parametrize("damage", ["{", '{"schema": 99, "plan": {"hash": "x"}, "run_id": "y"}', "[]"])
def test_a_damaged_run_folder_is_reported_and_left_alone(damage, tmp_path):
    folder = tmp_path / "r"
    folder.mkdir()
    (folder / "run.json").write_text(damage)
    for words in (["export", "r"], ["show", "r"], ["run", "-m", "msa", "--out", "r"]):
        done = attnbench(*words, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert "run.json" in done.stderr
    assert (folder / "run.json").read_text() == damage


def test_an_unwritable_folder_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    done = attnbench_process("run", "-m", "msa", "--out", "file/r", cwd=tmp_path)
    assert done.returncode == 2
    assert "cannot be read or written" in done.stderr


def test_help_needs_no_torch():
    code = "import sys; sys.argv=['attnbench','--help']\nfrom attnbench import cli\n"
    code += "try: cli.main()\nexcept SystemExit: pass\n"
    code += "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_a_broken_plugin_is_a_warning_that_names_it_and_the_error(tmp_path):
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    done = attnbench("plan", "-m", "msa", "--plugin", "broken.py", cwd=tmp_path)
    assert done.returncode == 0
    assert "broken.py was left out: ModuleNotFoundError" in done.stderr.replace("\n", " ")


def test_a_doubled_name_is_refused_with_both_sources(tmp_path):
    text = "from torch import nn\nfrom attnbench import mechanism\n@mechanism(name='msa')\nclass M(nn.Module):\n"
    (tmp_path / "twin.py").write_text(text + "    def __init__(self, dim, heads): super().__init__()\n")
    done = attnbench("plan", "--plugin", "twin.py", cwd=tmp_path)
    assert done.returncode == 2
    assert "msa.py" in done.stderr
    assert "twin.py" in done.stderr


def test_plan_shows_every_cell_where_it_is_asked_to():
    done = attnbench("plan", "-m", "msa,hilo", "--precision", "fp32,tf32", "--all")
    assert "4 cells, 2 declined" in done.stdout
    assert done.stdout.count("will be measured") == 2


def test_plan_summarises_comparisons_declines_and_a_time():
    done = attnbench("plan", "-m", "msa,hilo", "--precision", "fp32,tf32")
    assert done.returncode == 0
    assert "2 comparisons" in done.stdout
    assert "2 cells declined" in done.stdout
    assert "msa, hilo" in done.stdout
    assert "tf32 is a mode of CUDA matrix units" in done.stdout
    assert "about " in done.stdout


@pytest.mark.parametrize("what", ["mechanisms", "backbones", "tasks", "protocols", "devices", "suites", "quantities"])
def test_list_lists(what):
    done = attnbench("list", what)
    assert done.returncode == 0
    assert isinstance(json.loads(attnbench("list", what, "--json").stdout), list)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed(shell):
    done = attnbench("completion", shell)
    assert done.returncode == 0
    assert "attnbench" in done.stdout


def test_want_of_memory_gets_a_sentence_and_the_exit_code_of_an_unfinished_run(tmp_path):
    with mock.patch("attnbench.results.store.open_run", side_effect=MemoryError):
        done = attnbench("export", str(tmp_path))
    assert done.returncode == 4
    assert "not enough memory; what was measured is kept; free memory or raise the limit" in done.stderr
