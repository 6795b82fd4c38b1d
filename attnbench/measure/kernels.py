"""Which attention operators PyTorch ran in one call of an arm, in the cell's own grad mode."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from attnbench.measure.arm import Arm

_FUSED = "_scaled_dot_product_"


class _Listener(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's class is untyped
    """Counts the fused attention operators below autograd."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func.overloadpacket.__name__) if hasattr(func, "overloadpacket") else str(func)
        if name.startswith(_FUSED) and "backward" not in name:
            self.seen[name.removeprefix(_FUSED).replace("_attention", "")] += 1
        return func(*args, **(kwargs or {}))


def kernel_that_ran(arm: Arm) -> str:
    """`sdpa:flash_for_cpu`, say; `sdpa:math` where no fused operator was called."""
    with _Listener() as listener:
        arm()
    return "sdpa:" + ("+".join(sorted(listener.seen)) or "math")
