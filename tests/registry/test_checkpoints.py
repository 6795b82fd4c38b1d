"""Checkpoint files, good and bad."""

import pytest
import torch
from torch import nn

from attnbench.errors import AttnbenchError
from attnbench.registry.checkpoints import load_weights


def small():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def saved(tmp_path, content):
    torch.save(content, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s, "epoch": 3}, lambda s: {"state_dict": s}])
def test_weights_are_found_plainly_and_under_the_usual_names(tmp_path, wrap):
    theirs, ours = small(), small()
    theirs[1].running_mean.fill_(0.5)
    load_weights(ours, saved(tmp_path, wrap(theirs.state_dict())))
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))


def test_a_mismatch_names_what_is_missing_unexpected_and_misshapen_and_changes_nothing(tmp_path):
    module = small()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    state = {key: value + 1 for key, value in before.items()}
    state["0.weight"] = torch.zeros(4, 5)
    del state["2.bias"]
    state |= {f"extra.{i}": torch.zeros(1) for i in range(5)}
    with pytest.raises(AttnbenchError) as caught:
        load_weights(module, saved(tmp_path, state))
    assert str(caught.value) == (
        "a checkpoint must hold exactly the weights of Sequential; got 1 missing (2.bias), "
        "5 unexpected (extra.0, extra.1, extra.2 and 2 more), 1 of another shape (0.weight 4x5 for 4x3) in weights.pth"
    )
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


def test_a_scalars_shape_is_named(tmp_path):
    state = {**small().state_dict(), "1.num_batches_tracked": torch.zeros(2)}
    with pytest.raises(AttnbenchError, match=r"1\.num_batches_tracked 2 for scalar"):
        load_weights(small(), saved(tmp_path, state))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(AttnbenchError, match=r"a checkpoint is a file; got .*nowhere\.pth', which is not there"):
        load_weights(small(), tmp_path / "nowhere.pth")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 torn"])
def test_a_file_that_is_no_checkpoint(tmp_path, content):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(AttnbenchError, match=r"must be a file of tensors that torch\.load reads"):
        load_weights(small(), tmp_path / "weights.pth")


class Code:
    """What a pickle could run."""

    def __reduce__(self):
        return (print, ("it ran",))


def test_code_in_a_file_is_refused_and_not_run(tmp_path, capsys):
    with pytest.raises(AttnbenchError, match=r"weights_only=True; got weights\.pth: UnpicklingError"):
        load_weights(small(), saved(tmp_path, {"model": Code()}))
    assert "it ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "got"),
    [
        ({"epoch": 3, "optimizer": {}}, "a mapping with epoch, optimizer"),
        ({}, "a mapping with nothing"),
        ([torch.zeros(1)], "a list"),
        ({"model": {"a": 3}}, "a mapping with model"),
    ],
)
def test_a_file_without_weights_is_refused_by_its_content(tmp_path, content, got):
    with pytest.raises(AttnbenchError, match=f"named tensors, plainly or under model or state_dict; got {got} in"):
        load_weights(small(), saved(tmp_path, content))
