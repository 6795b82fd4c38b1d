"""Module -> Counts: parameters and multiply-accumulates (MACs) per image of a forward pass.

Everything runs on the `meta` device: tensors have no values, so a large map costs no time, and fused attention is
counted. PyTorch's FlopCounterMode gives `macs`. fvcore, which the papers used and which also counts normalisation
and pooling, gives `macs_fvcore`. An operator that FlopCounterMode does not support makes `macs` a lower bound.
"""

from __future__ import annotations

import contextlib
import copy
import math
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from attnbench.errors import AttnbenchError

Extra = Mapping[Any, Callable[..., int]]

# Operators without a matrix product, apart from element-wise operators and views, which PyTorch marks. The last two
# lines are element-wise too: PyTorch 2.5 does not mark them.
_NAMES = """
    _softmax _log_softmax _safe_softmax softmax log_softmax logsumexp cumsum logcumsumexp cumprod
    native_layer_norm native_group_norm native_batch_norm batch_norm _native_batch_norm_legit
    _native_batch_norm_legit_no_training cudnn_batch_norm miopen_batch_norm _batch_norm_no_update
    _batch_norm_with_update _fused_rms_norm linalg_vector_norm norm renorm
    sum mean amax amin aminmax max min prod argmax argmin any all var var_mean std std_mean count_nonzero nansum
    avg_pool1d avg_pool2d _adaptive_avg_pool2d adaptive_avg_pool2d mean_pool2d max_pool2d_with_indices
    adaptive_max_pool2d max_pool2d
    upsample_nearest1d upsample_nearest2d _upsample_nearest_exact2d upsample_bilinear2d _upsample_bilinear2d_aa
    upsample_bicubic2d _upsample_bicubic2d_aa upsample_linear1d grid_sampler_2d pixel_shuffle pixel_unshuffle
    channel_shuffle as_strided
    topk sort argsort kthvalue median gather index index_select take embedding scatter scatter_add
    scatter_reduce index_add index_put _index_put_impl index_copy index_fill masked_select masked_scatter nonzero
    _unsafe_index floor_divide searchsorted bucketize unique_dim _unique2 one_hot
    cat stack constant_pad_nd reflection_pad2d replication_pad2d roll flip repeat repeat_interleave tril triu
    clone copy _to_copy contiguous im2col col2im unfold_backward _unsafe_view _reshape_alias _reshape_copy resize
    set lift lift_fresh_copy detach alias _local_scalar_dense item is_same_size _assert_async _assert_scalar
    empty empty_like empty_strided empty_permuted new_empty new_empty_strided zeros zeros_like new_zeros
    ones ones_like new_ones full full_like new_full fill zero arange linspace logspace eye scalar_tensor
    tril_indices triu_indices complex view_as_real view_as_complex _conj _neg_view
    rand rand_like randn randn_like randint randint_like randperm bernoulli uniform normal exponential
    native_dropout dropout promote_types
    celu elu hardshrink hardsigmoid hardtanh leaky_relu mish relu6 selu softplus softshrink threshold
    isfinite ldexp rad2deg
"""
NEGLIGIBLE = frozenset(_NAMES.split())
# The operators that fvcore counts in addition to linear layers, convolutions and matrix products.
_FVCORE_EXTRA = (
    "layer_norm", "group_norm", "batch_norm", "instance_norm", "adaptive_avg_pool2d", "grid_sampler",
    "upsample_bilinear2d", "upsample_nearest2d", "scatter",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Counts:
    """The cost of one image in a forward pass of the code as written.

    Attributes:
        params: elements of all parameters.
        macs: multiply-accumulates of linear layers, convolutions and matrix products.
        macs_fvcore: the total of fvcore; None if fvcore is not installed or cannot trace the module.
        fvcore_extra: what fvcore counts in addition to multiply-accumulates, by operator.
        unsupported: number of calls of operators that fvcore does not count.
        unknown: number of calls of operators that FlopCounterMode does not count and that are not known to be
            negligible.
        notes: one line for people; may be empty.
    """

    params: int
    macs: int
    macs_fvcore: int | None
    fvcore_extra: Mapping[str, int] = field(default_factory=dict)
    unsupported: Mapping[str, int] = field(default_factory=dict)
    unknown: Mapping[str, int] = field(default_factory=dict)
    notes: str = ""

    @property
    def lower_bound(self) -> bool:
        """Whether `macs` omits an operator that may matter."""
        return bool(self.unknown)


def count(module: nn.Module, x: Tensor, *, extra: Extra | None = None, fvcore: bool = True) -> Counts:
    """Count the forward pass of one image. `module` is not changed.

    Args:
        module: built with the kernel to count, usually `eager`.
        x: an input [B, ...]; only the shape and the dtype of one image are used.
        extra: formulas of custom operators, `{torch.ops.mine.scan: formula}`, in the form of FlopCounterMode's
            `custom_mapping`: shapes in, FLOPs out, two for each multiply-accumulate.
        fvcore: whether to count with fvcore too.

    Raises:
        AttnbenchError: the module cannot run on the meta device.
    """
    twin = on_meta(module)
    image = torch.empty((1, *x.shape[1:]), device="meta", dtype=x.dtype)
    operators = _Operators()
    counter = FlopCounterMode(display=False, custom_mapping=dict(extra or {}))
    try:
        with warnings.catch_warnings(), torch.no_grad(), operators, counter:
            warnings.simplefilter("ignore")
            twin(image)
    except Exception as error:  # a mechanism's forward may raise anything
        raise AttnbenchError(
            "a mechanism must run on the meta device, where tensors have no values; "
            f"got {type(error).__name__}: {error}; avoid code that reads values, such as .item()"
        ) from error
    counted = {packet.__name__ for packet in counter.flop_registry if hasattr(packet, "__name__")}
    unknown = {name: times for name, times in sorted(operators.calls.items()) if _bare(name) not in counted}
    macs = counter.get_total_flops() // 2
    total, additional, unsupported, failure = _fvcore(twin, image) if fvcore else (None, {}, {}, "")
    return Counts(
        params=sum(p.numel() for p in module.parameters()),
        macs=macs,
        macs_fvcore=total,
        fvcore_extra=additional,
        unsupported=unsupported,
        unknown=unknown,
        notes=_notes(macs, total, additional, unknown, failure),
    )


def preload() -> None:
    """Import what counting needs, once in the process that the counting processes are forked from."""
    import torch._dynamo  # noqa: F401  a linear layer on meta imports it, which takes about a second

    with warnings.catch_warnings(), contextlib.suppress(ImportError):
        warnings.simplefilter("ignore")
        import fvcore.nn  # noqa: F401  for the forked processes


def on_meta(module: nn.Module) -> nn.Module:
    """Copy `module` to the meta device, in eval mode; no weight is copied."""
    memo: dict[int, Any] = {}
    for p in module.parameters():
        memo[id(p)] = nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=False)
    for b in module.buffers():
        memo[id(b)] = torch.empty_like(b, device="meta")
    return copy.deepcopy(module, memo).eval()


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own class
    """Counts the calls of operators that are not negligible, by name."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the same
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if isinstance(func, torch._ops.OpOverload) and not _negligible(func):
            self.calls[func._schema.name] += 1
        return func(*args, **(kwargs or {}))


# PyTorch's own convolutions leave no node in a trace on the meta device; an operator of our own does, in every version.
torch.library.define(
    "attnbench::convolution",
    "(Tensor x, Tensor weight, int[] stride, int[] padding, int[] dilation, bool transposed, int[] output_padding, "
    "int groups) -> Tensor",
)


@torch.library.impl("attnbench::convolution", "Meta")
def _meta_convolution(x: Tensor, weight: Tensor, *form: Any) -> Tensor:
    return torch.ops.aten.convolution(x, weight, None, *form)


def _traced_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """MACs of one node of that operator, as fvcore counts a convolution: all weights times the places they serve."""
    x, weight, y = (value.type().sizes() for value in (*inputs[:2], outputs[0]))
    places = x if inputs[5].toIValue() else y
    return Counter({"conv": x[0] * math.prod(weight) * math.prod(places[2:])})


class _TraceableConvolutions(TorchFunctionMode):
    """Replaces convolutions with the operator that a trace on the meta device records."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.conv1d, torch.conv2d, torch.conv3d):
            return _convolution(*args, **(kwargs or {}))
        if func in (torch.conv_transpose1d, torch.conv_transpose2d):
            return _transposed(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    if padding == "same":
        kernel = zip(_each(dilation, weight), weight.shape[2:], strict=True)
        total = [d * (k - 1) for d, k in kernel]
        x = nn.functional.pad(x, [p for t in reversed(total) for p in (t // 2, t - t // 2)])
    place = 0 if isinstance(padding, str) else padding
    result: Tensor = torch.ops.attnbench.convolution(
        x, weight, _each(stride, weight), _each(place, weight), _each(dilation, weight), False, _each(0, weight), groups
    )
    return result


def _transposed(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
    groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    result: Tensor = torch.ops.attnbench.convolution(
        x, weight, _each(stride, weight), _each(padding, weight), _each(dilation, weight), True,
        _each(output_padding, weight), groups,
    )  # fmt: skip
    return result


def _each(value: Any, weight: Tensor) -> list[int]:
    return [value] * (weight.dim() - 2) if isinstance(value, int) else list(value)


def _negligible(op: torch._ops.OpOverload) -> bool:
    if op.namespace == "prim":
        return True
    known = op.namespace == "aten" and _bare(op._schema.name).rstrip("_") in NEGLIGIBLE
    return known or op.is_view or torch.Tag.pointwise in op.tags or torch.Tag.view_copy in op.tags


def _bare(name: str) -> str:
    return name.partition("::")[2]


def _fvcore(twin: nn.Module, image: Tensor) -> tuple[int | None, dict[str, int], dict[str, int], str]:
    """Count with fvcore: the total, additional counts by operator, calls of uncounted operators, the error."""
    try:
        from fvcore.nn import FlopCountAnalysis
    except ImportError:
        return None, {}, {}, "fvcore is not installed"
    try:
        with warnings.catch_warnings(), torch.no_grad(), _TraceableConvolutions():
            warnings.simplefilter("ignore")
            analysis = FlopCountAnalysis(twin, image).set_op_handle("attnbench::convolution", _traced_macs)
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
            total = int(analysis.total())
            operators, uncounted = analysis.by_operator(), analysis.unsupported_ops()
    except Exception as error:  # its trace fails on some modules
        return None, {}, {}, f"fvcore cannot trace it: {type(error).__name__}: {str(error).splitlines()[0]}"
    additional = {name: int(operators[name]) for name in _FVCORE_EXTRA if operators.get(name)}
    unsupported = {str(name): int(times) for name, times in sorted(uncounted.items())}
    return total, additional, unsupported, ""


def _notes(
    macs: int, total: int | None, additional: Mapping[str, int], unknown: Mapping[str, int], failure: str
) -> str:
    words = [failure] if failure else []
    if unknown:
        words.append(f"a lower bound: no FLOP formula for {', '.join(unknown)}")
    if total is not None and total != macs:
        terms = [f"{n:,} for {name}" for name, n in additional.items()]
        rest = total - macs - sum(additional.values())
        if rest:
            terms.append(f"{rest:+,} for products that it rounds (einsum), miscounts or does not see")
        words.append(f"fvcore counts {total:,}: these MACs, {', '.join(terms)}")
    return "; ".join(words)
