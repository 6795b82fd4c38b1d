"""What the first operators of a process pay for, whatever layer they belong to: the start of the libraries.

cuBLAS and cuDNN allocate handles and load kernels at their first call, which takes up to a second; oneDNN and the
threads of OpenMP start likewise. Where no primer call comes before the timed ones, that would count as the layer's
time.
"""

from __future__ import annotations

import torch

from attnbench.machine.devices import Device

_SIDE = 32  # of the matrices and of the map: no layer's shape, so nothing of a layer is prepared


def start_libraries(device: Device, dtype: torch.dtype) -> None:
    """Run one small matrix product, batched product and convolution in `dtype`, and wait for them."""
    where = device.torch_device()
    with torch.inference_mode():
        x = torch.zeros(1, _SIDE, _SIDE, _SIDE, dtype=dtype, device=where)
        torch.mm(x[0, 0], x[0, 0])
        torch.bmm(x[0], x[0])
        torch.nn.functional.conv2d(x, torch.zeros(_SIDE, _SIDE, 1, 1, dtype=dtype, device=where))
    device.synchronize()
