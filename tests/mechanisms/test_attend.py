"""The one place where an attention kernel is chosen."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mechanisms import attend as module
from mechanisms.attend import attend

CUDNN = torch.backends.cuda.cudnn_sdp_enabled


@pytest.fixture
def asked(monkeypatch):
    """Whether cuDNN's kernel was allowed at each fused call, on what passes for a GPU."""
    allowed: list[bool] = []
    real = F.scaled_dot_product_attention

    def watched(*args, **kwargs):
        allowed.append(CUDNN())
        return real(*args, **kwargs)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    monkeypatch.setattr(module, "_on_gpu", lambda q: True)
    return allowed


def tensors(*, train: bool):
    q = torch.randn(1, 2, 4, 8, requires_grad=train)
    return q, torch.zeros(1, 2, 4, 4, requires_grad=train)


def test_cudnn_cannot_train_a_bias():
    """The fact behind the choice: autograd refuses the operator before any GPU is asked."""
    q, bias = tensors(train=True)
    with pytest.raises(RuntimeError, match="not differentiable with respect to argument 'attn_bias'"):
        torch.ops.aten._scaled_dot_product_cudnn_attention(q, q, q, bias, True)


def test_a_bias_that_is_trained_on_a_gpu_goes_past_cudnn_and_gets_its_gradient(asked):
    before = CUDNN()
    q, bias = tensors(train=True)
    attend(q, q, q, bias, kernel="sdpa").square().sum().backward()
    assert asked == [False]
    assert CUDNN() is before
    assert bias.grad is not None


@pytest.mark.parametrize("case", ["no bias", "a mask", "no gradient wanted"])
def test_every_other_call_leaves_the_choice_to_pytorch(asked, case):
    q, bias = tensors(train=case == "no gradient wanted")
    with torch.no_grad():
        attend(q, q, q, None if case == "no bias" else bias, kernel="sdpa")
    assert asked == [CUDNN()]


def test_the_choice_is_kept_when_it_is_compiled(monkeypatch):
    monkeypatch.setattr(module, "_on_gpu", lambda q: True)
    q, bias = tensors(train=True)
    expected = attend(q, q, q, bias, kernel="sdpa")
    torch.compiler.reset()
    compiled = torch.compile(attend, backend="aot_eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(compiled(q, q, q, bias, kernel="sdpa"), expected)
