"""Checkpoint files, good and bad."""

import os

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
    with pytest.raises(
        AttnbenchError, match=r"a checkpoint must be a file of tensors; got .*nowhere\.pth', which is not there"
    ):
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


def broken(kind):
    """A healthy state of `small` with one weight of a kind that a layer cannot take."""
    state = small().state_dict()
    weight = state["0.weight"]
    state["0.weight"] = {
        "sparse": weight.to_sparse(),
        "meta": weight.to("meta"),
        "complex": weight.to(torch.complex64),
        "integers": weight.to(torch.int8),
        "NaN": weight * float("nan"),
        "infinite": weight / 0,
        "quantized": torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
        "a view of one number": torch.zeros(1).expand(4, 10**9),
    }[kind]
    return state


@pytest.mark.parametrize(
    "kind", ["sparse", "meta", "complex", "integers", "NaN", "infinite", "quantized", "a view of one number"]
)
@pytest.mark.filterwarnings("ignore")  # of torch, on making such a tensor
def test_a_weight_that_a_layer_cannot_take_is_refused_and_changes_nothing(kind, tmp_path):
    module = small()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(AttnbenchError, match=r"in weights\.pth"):
        load_weights(module, saved(tmp_path, broken(kind)))
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


def test_half_precision_weights_are_taken(tmp_path):
    halves, module = {k: v.half() for k, v in small().state_dict().items()}, small()
    load_weights(module, saved(tmp_path, halves))
    assert all(torch.equal(value, halves[key].float()) for key, value in module.state_dict().items())


@pytest.mark.parametrize(
    "content",
    [b"\x80\x02.", b"\x80\x02X\xff", b"\x80\x02]q\x00(K\x01K\x02e.", b"\x80\x02h\x05.", b"\x80\x02(.", b"\x80\x02u.",
     b"\x80\x02}q\x00X\x05\x00\x00\x00modelK\x01s.", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02",
     b"\x80\x02R.", b"K\x01.", b"PK\x05\x06" + b"\x00" * 18],
)  # fmt: skip
def test_a_pickle_that_is_none_is_refused_with_a_sentence(content, tmp_path):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(AttnbenchError, match="a checkpoint"):
        load_weights(small(), tmp_path / "weights.pth")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AttnbenchError, match="no regular file"):
        load_weights(small(), tmp_path / "pipe")
