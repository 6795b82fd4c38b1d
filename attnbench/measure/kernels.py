"""Which attention operators PyTorch ran in one call of an arm, in the cell's own grad mode.

The profiler records every operator that the dispatcher calls, whatever Python code, autograd or compiled graph called
it. A call of `F.scaled_dot_product_attention` runs exactly one `_scaled_dot_product_...` operator: a fused one, or
`_scaled_dot_product_attention_math`, which is softmax between two matrix products in several operators.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import torch

from attnbench.measure.arm import Arm
from attnbench.registry.native import NATIVE

_PREFIX = "aten::_scaled_dot_product_"
_NATIVE = "aten::_native_multi_head_attention"  # the fast path of nn.MultiheadAttention


def attention_operators(names: Iterable[str]) -> Counter[str]:
    """Calls of attention operators by short name (`flash_for_cpu`, `math`), from the names of a profile's operators.

    Backward operators are left out: each belongs to a forward operator that is counted.
    """
    return Counter(_short(name) for name in names if name == _NATIVE or _is_attention(name))


def describe(kernel: str, operators: Counter[str]) -> str:
    """The words of `kernel_ran`: `eager`, `sdpa:flash_for_cpu x1`, `sdpa:flash_for_cpu x1, math x1`.

    Without any attention operator an `sdpa` cell ran `eager`. `flex` is a compiled graph of its own and keeps its name,
    as a kernel of another package does.
    """
    counts = ", ".join(f"{name} x{times}" for name, times in sorted(operators.items()))
    named = kernel if kernel in ("flex", *NATIVE) else ""
    if not counts:
        return named or "eager"
    return f"{named}, sdpa:{counts}" if named else f"sdpa:{counts}"


def kernel_that_ran(arm: Arm) -> str:
    """Call the arm once under the profiler; see `describe`."""
    with torch.autograd.profiler.profile() as trace:
        arm.call()  # a graph's replay shows no operators
    return describe(arm.cell.kernel, attention_operators(e.name() for e in trace.kineto_results.events()))


def _is_attention(name: str) -> bool:
    return name.startswith(_PREFIX) and "backward" not in name


def _short(name: str) -> str:
    return name.removeprefix(_PREFIX).removeprefix("aten::_").replace("_attention", "").replace("attention_", "")
