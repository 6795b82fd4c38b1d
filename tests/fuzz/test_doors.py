"""Each door accepts what it can carry through, and refuses the rest with a sentence: no traceback, no silent nonsense.

`make fuzz` runs the same strategies for longer. The examples are the same each time, so that a failure is everyone's.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import os
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.in_process import fault, run_command
from torch import nn

from attnbench import inputs
from attnbench.errors import AttnbenchError
from attnbench.execution import rates
from attnbench.planning.sizes import size_bytes
from attnbench.registry import registry
from attnbench.registry.checkpoints import load_weights
from attnbench.registry.variant import parse_value, parse_variant, split_list
from fuzz import grammar, strategies

FEW = settings(max_examples=120, deadline=None, database=None, derandomize=True)
MANY = settings(FEW, max_examples=300)
NUMBERS = itertools.count()
SENTENCE = 600  # characters


@pytest.fixture(autouse=True, scope="module")
def _no_measurement() -> Iterator[None]:
    """`plan` estimates with an assumed rate, not with one that is measured for each example."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            rates, "rates_of", lambda cells, **_: {cell.id: rates.Rate(1e11, rates.ASSUMED) for cell in cells}
        )
        yield


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def attempt(door: Callable[..., Any], *values: Any) -> tuple[Any, str]:
    """What the door gives, or the sentence with which it refuses."""
    try:
        return door(*values), ""
    except AttnbenchError as error:
        return None, str(error)


@MANY
@given(strategies.WHOLE)
def test_a_whole_number_is_the_one_that_was_typed(text):
    found, sentence = attempt(inputs.whole, "it", text)
    if found is not None:
        assert text.isascii()
        assert 1 <= found == int(text) <= inputs.MOST
        assert "_" not in text
    assert len(sentence) < SENTENCE


@MANY
@given(strategies.NUMBER)
def test_a_number_is_finite_and_the_one_that_was_typed(text):
    found = inputs.parse_number(text)
    assert found is None or (math.isfinite(found) and found == float(text))


@MANY
@given(strategies.SIZE)
def test_a_size_is_a_number_of_bytes_that_a_machine_can_have(text):
    found, sentence = attempt(size_bytes, text)
    assert found is None or 1 <= found < 2**63
    assert len(sentence) < SENTENCE


@MANY
@given(strategies.VARIANT)
def test_a_variant_that_is_read_is_read_the_same_from_its_own_text(text):
    found, sentence = attempt(parse_variant, text)
    assert len(sentence) < SENTENCE
    if found is not None:
        assert parse_variant(str(found)) == found
        numbers = [value for _, value in found.settings if isinstance(value, float)]
        assert all(map(math.isfinite, numbers))


@MANY
@given(st.one_of(strategies.ODD_TEXT, strategies.VALUE))
def test_a_value_survives_being_written_and_read(text):
    value = parse_value(text)
    assert parse_value(str(value)) == value


@MANY
@given(strategies.listed(strategies.ODD_TEXT, 6))
def test_a_list_is_split_into_items_that_join_to_it_again(text):
    items, sentence = attempt(split_list, text)
    assert len(sentence) < SENTENCE
    if items is not None:
        assert all(items)
        assert split_list(",".join(items)) == items


@MANY
@given(st.one_of(st.text(), strategies.ODD_TEXT), st.integers(10, 600))
def test_a_reason_is_one_bounded_printable_line(text, longest):
    made = inputs.printable(text, longest)
    assert len(made) <= longest
    assert not [c for c in made if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    made.encode("utf-8")


@FEW
@given(words=strategies.command_lines())
def test_a_plan_has_the_cells_that_were_asked_for_or_the_command_says_why_not(words, folder):
    ended = run_command(["plan", *words, "--json"], folder)
    assert fault(ended) == ""
    if ended.code == 0:
        assert grammar.wrong(words, json.loads(ended.out)) == ""


@FEW
@given(text=strategies.sweep_files())
def test_a_sweep_file_is_planned_or_refused(text, folder):
    (folder / "s.toml").write_bytes(text.encode("utf-8", "surrogatepass"))
    ended = run_command(["plan", "--sweep", "s.toml", "--json"], folder)
    assert fault(ended) == ""


@FEW
@given(text=strategies.plugins())
def test_a_plugin_is_planned_or_left_out_with_the_reason(text, folder):
    name, environment = f"odd_{next(NUMBERS)}.py", dict(os.environ)
    (folder / name).write_text(text)
    try:
        ended = run_command(["plan", "-m", "msa,odd", "--plugin", name, "--json"], folder)
    finally:
        registry._loaded.clear()
    assert fault(ended) == ""
    assert ended.code in (0, 2)
    assert ended.out or ended.err
    assert dict(os.environ) == environment


def save(buffer: io.BytesIO, old: bool) -> None:
    torch.manual_seed(0)
    torch.save(nn.Linear(2, 2).state_dict(), buffer, _use_new_zipfile_serialization=not old)


@MANY
@given(data=strategies.checkpoint_bytes(save))
def test_a_checkpoint_fills_the_module_or_leaves_it_as_it_was(data, folder):
    (folder / "weights.pth").write_bytes(data)
    module = nn.Linear(2, 2)
    before = [parameter.clone() for parameter in module.parameters()]
    _, sentence = attempt(load_weights, module, folder / "weights.pth")
    if sentence:
        assert len(sentence) < 2 * SENTENCE
        assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    else:
        assert all(bool(torch.isfinite(parameter).all()) for parameter in module.parameters())
