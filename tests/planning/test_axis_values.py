"""What a person writes for an axis in Python means the same as on the command line."""

import importlib

import pytest

from attnbench import AttnbenchError, Sweep
from attnbench.commands.options import read_sweep


@pytest.mark.parametrize(
    ("python", "typed"),
    [
        ({"mechanism": "hilo", "res": 224}, {"mechanism": "hilo", "res": "224"}),
        ({"mechanism": "hilo[alpha=0.5,window_size=2],msa"}, {"mechanism": "hilo[alpha=0.5,window_size=2],msa"}),
        ({"mechanism": ["hilo", "msa"], "batch": [1, 64]}, {"mechanism": "hilo,msa", "batch": "1,64"}),
        ({"res": "224,512x384"}, {"res": "224,512x384"}),
        ({"res": [224, (512, 384)]}, {"res": "224,512x384"}),
        ({"batch": 8, "kernel": "eager,sdpa", "graphs": False}, {"batch": "8", "kernel": "eager,sdpa", "graphs": "no"}),
        ({"settings": {"hilo.alpha": (0, 0.5)}}, {"settings": ("hilo.alpha=0,0.5",)}),
        ({"rounds": 6, "processes": 3, "budget": 5.0}, {"rounds": "6", "processes": "3", "budget": "5"}),
        ({"memory_limit": "2GiB", "strict": True}, {"memory_limit": "2GiB", "strict": True}),
        ({"strict": False}, {}),
    ],
)
def test_values_alone_lists_and_text_give_the_sweep_that_the_command_line_gives(python, typed):
    assert Sweep(**python) == read_sweep(typed)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"mechanism": 7}, "mechanism must be"),
        ({"res": {224}}, "res must be a tuple"),
        ({"res": "wide"}, "resolution must be pixels"),
        ({"res": ((224, 224, 3),)}, r"a resolution must be \(height, width\)"),
        ({"batch": 1.5}, "batch must be a tuple"),
        ({"settings": "hilo.alpha"}, "settings must be a tuple"),
        ({"memory_limit": "much"}, "a size is a number"),
    ],
)
def test_what_is_no_axis_is_refused_with_the_rule(words, message):
    with pytest.raises(AttnbenchError, match=message):
        Sweep(**words)


def test_the_commands_are_listed_and_found():
    import attnbench

    assert {"claims", "compare", "recommend", "report", "run"} <= set(dir(attnbench))
    assert callable(attnbench.compare)


def test_the_function_report_can_be_called_also_when_the_package_of_its_name_was_imported(tmp_path):
    import attnbench

    importlib.import_module("attnbench.report.numbers")
    with pytest.raises(AttnbenchError, match="no-run"):
        attnbench.report(tmp_path / "no-run", out=tmp_path / "out")
