"""One cell's layer, ready to be called: built on its device, in its precision, with its kernel."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attnbench import runtimes
from attnbench.machine.devices import Device
from attnbench.planning.cell import Cell
from attnbench.registry import Registry
from attnbench.registry.variant import parse_variant
from attnbench.runtimes import artifacts
from attnbench.runtimes.compile import forbid_fallback

INPUT_SETS = 3  # random inputs that calls use in turn
_SAMPLE_STEP = 1021  # elements; a prime, so that no grid or channel count is in step with it


class ContractError(Exception):
    """An arm did not do what the contract asks; the text is the reason."""


class InputSets:
    """The inputs of a comparison, [batch, ...] each, and one copy of them on which every arm works in its turn.

    One copy serves all arms, so that arms need no memory for inputs between turns and all read the same addresses.

    Args:
        originals: on the host.
        place: where the copy is made; the host if not given.
    """

    def __init__(self, originals: Sequence[Tensor], place: torch.device | None = None) -> None:
        self.originals = tuple(originals)
        self._place = place or torch.device("cpu")
        self._copies: list[Tensor] = []

    def restored(self) -> list[Tensor]:
        """The copies, with the values of the originals."""
        if any(x.untyped_storage().nbytes() < y.nbytes for x, y in zip(self._copies, self.originals, strict=False)):
            self._copies = []  # a layer has shrunk one
        if not self._copies:
            self._copies = [x.to(self._place, copy=True) for x in self.originals]
        else:
            for mine, original in zip(self._copies, self.originals, strict=True):
                mine.copy_(original)
        return self._copies

    def release(self) -> None:
        """Let the copies go; the next `restored` makes them anew."""
        self._copies = []


class Arm:
    """A layer with its inputs; calling it is one forward pass, for `train` a backward pass too."""

    def __init__(
        self, cell: Cell, device: Device, known: Registry, *, inference: bool, weights: str, artifact: str = "",
        prepare: bool = True,
    ) -> None:  # fmt: skip
        """Build the layer; `artifact` names its exported form, if the cell's runtime needs one.

        Without `prepare` the arm is not ready to be called until its `prepare` was.
        """
        if cell.kernel == "flex":
            forbid_fallback()
        self.cell, self.device = cell, device
        self.inference = inference and cell.pass_ == "forward"
        self.dtype = device.set_precision(cell.precision)
        self.runtime, self.artifact = runtimes.get(cell.runtime), artifact
        self.module = build_module(cell, device, known, inference=self.inference, weights=weights)
        self.weights_bytes = _bytes_of(self.module)
        self.parameters = sum(p.numel() for p in self.module.parameters() if p.requires_grad)
        self._next = 0
        self._inputs: list[Tensor] = []
        self._originals: Sequence[Tensor] = ()
        self._versions: list[int] = []
        self._gradient: Any = None
        self._replay: Callable[[], object] | None = None
        self.output: Any = None
        if self.runtime.artifact:
            self.module = self.module.to("meta")  # its weights are in the file
        if prepare:
            self.prepare()

    def prepare(self) -> None:
        """Hand the layer to its runtime.

        Raises:
            UnsupportedError: the runtime cannot take it.
            FileNotFoundError: its exported form is not there any more.
        """
        file: Path | None = artifacts.path_of(self.artifact) if self.runtime.artifact else None
        example = torch.empty(_input_shape(self.cell), dtype=self.dtype, device=self.device.torch_device())
        self.prepared = self.runtime.prepare(self.module, example, self.cell.threads, self.cell.precision, file)
        self._run = self.prepared.call
        if self.prepared.weights_bytes is not None:  # the runtime has made weights of its own
            self.weights_bytes, self.module = self.prepared.weights_bytes, self.module.to("meta")

    def feed(self, inputs: InputSets) -> None:
        """Give the input sets that calls use in turn; what an earlier arm wrote into their copies is undone.

        A graph has fixed addresses, so it works on the first set alone.
        """
        train, sets = self.cell.pass_ == "train", 1 if self.cell.graphs else None
        self._inputs = [x.detach().requires_grad_(train) for x in inputs.restored()[:sets]]
        self._versions = [x._version for x in self._inputs]
        self._originals = inputs.originals[:sets]
        self.prepared.bind(self._inputs)
        self._next, self._replay = 0, None

    def changed_inputs(self, *, thorough: bool) -> bool:
        """Whether a call has written into the arm's inputs: by torch's count of writes and a sample, or all values."""
        if [x._version for x in self._inputs] != self._versions:
            return True
        step = 1 if thorough else _SAMPLE_STEP
        pairs = zip(self._inputs, self._originals, strict=True)
        return not all(_same(mine.detach().view(-1)[::step], x.view(-1)[::step]) for mine, x in pairs)

    def __call__(self) -> None:
        """One forward pass; for `train`, forward and backward with a fixed random gradient. Graphs are replayed."""
        self.capture()
        if self._replay is None:
            self.call()
        else:
            self._replay()

    def capture(self) -> None:
        """Capture the call, if it is to be replayed and has not been captured since `feed` or `forget`.

        Raises:
            CaptureError: it cannot be captured.
        """
        if self.cell.graphs and self._replay is None:
            self._replay = self.device.capture(self.call)

    def call(self) -> None:
        """One pass as the layer runs it, never replayed."""
        x = self._inputs[self._next]
        self._next = (self._next + 1) % len(self._inputs)
        if self.inference:
            with torch.inference_mode():
                self.output = self._run(x)
            return
        if self.cell.pass_ == "forward":  # the papers' procedure: autograd records, nothing goes back
            self.output = self._run(x)
            return
        self.module.zero_grad(set_to_none=True)
        x.grad = None
        tensors = [t for t in tensors_of(self._run(x)) if t.requires_grad]
        if self._gradient is None:
            self._gradient = [torch.randn_like(t) for t in tensors]
        torch.autograd.backward(tensors, self._gradient)
        self.output = [t.detach() for t in tensors]

    def forget(self) -> None:
        """Let the last call's output and gradients go, so that the next call's peak holds all that it makes.

        A graph goes too, with the memory that it keeps for a call; so do a runtime's buffers.
        """
        self.output = self._replay = None
        self.prepared.forget()
        self.module.zero_grad(set_to_none=True)
        for x in self._inputs:
            x.grad = None

    def leave(self) -> None:
        """End a turn: nothing but the weights stays."""
        self.forget()
        self._inputs, self._originals, self._gradient = [], (), None

    def check(self) -> None:
        """Look at the output of the last call and, for `train`, at the gradients.

        Raises:
            ContractError: something is not finite, or has the wrong shape or dtype, or is the input itself.
        """
        tensors = tensors_of(self.output)
        if not tensors:
            raise ContractError(f"forward must return a tensor; got {type(self.output).__name__}")
        if self.cell.scope == "layer":
            got, wanted = tuple(tensors[0].shape), tuple(self._inputs[0].shape)
            if got != wanted:
                raise ContractError(f"forward must keep the shape; got {_by(got)} from {_by(wanted)}")
            if tensors[0].dtype != self.dtype:
                raise ContractError(f"forward must keep the dtype; got {tensors[0].dtype} from {self.dtype}")
        for tensor in tensors:
            _finite("output", tensor)
            if any(tensor.untyped_storage().data_ptr() == x.untyped_storage().data_ptr() for x in self._inputs):
                raise ContractError("forward must return a new tensor; got its input, or a view of it; return a copy")
        if self.cell.pass_ == "train":
            for name, parameter in self.module.named_parameters():
                if parameter.grad is not None:
                    _finite(f"gradient of {name}", parameter.grad)
            for x in self._inputs:
                if x.grad is not None:
                    _finite("gradient of the input", x.grad)

    def check_values(self) -> None:
        """Look at the values of the last call's output, in one cheap pass over them.

        Raises:
            ContractError: a value is not finite.
        """
        for tensor in tensors_of(self.output):
            if tensor.is_floating_point() and not math.isfinite(float(tensor.detach().sum(dtype=torch.float32))):
                _finite("output", tensor)  # a sum of finite values may overflow

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one input batch."""
        return tuple(self._inputs[0].shape)

    @property
    def input_bytes(self) -> int:
        """Of one input batch."""
        x = self._inputs[0]
        return x.numel() * x.element_size()


def build_module(cell: Cell, device: Device, known: Registry, *, inference: bool, weights: str) -> nn.Module:
    """The cell's layer on its device and in its dtype, with the weights that every arm of the cell has."""
    torch.manual_seed(0)
    module = known.build(known.check(parse_variant(cell.variant)), cell.size, kernel=cell.kernel)
    if weights:
        from attnbench.registry.checkpoints import load_weights

        load_weights(module, weights)
    module = module.to(device.torch_device(), device.set_precision(cell.precision))
    return module.train(not inference)


def make_inputs(cell: Cell, device: Device, dtype: torch.dtype, seed: int, sets: int = INPUT_SETS) -> InputSets:
    """Random normal inputs, seeded: [B,H,W,C] for a layer, [B,3,h,w] for a model; the originals on the host.

    Pages that the system cannot move are copied to a GPU several times as fast.
    """
    generator = torch.Generator().manual_seed(seed)
    made = (torch.randn(_input_shape(cell), generator=generator) for _ in range(sets))
    on_host, place = [x.to(dtype) for x in made], device.torch_device()
    return InputSets([x.pin_memory() for x in on_host] if place.type == "cuda" else on_host, place)


def tensors_of(output: Any) -> list[Tensor]:
    """The tensors in a module's output, whatever its nesting."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, list | tuple):
        return [t for part in output for t in tensors_of(part)]
    return []


def _input_shape(cell: Cell) -> tuple[int, ...]:
    return (cell.batch, *cell.grid, cell.dim) if cell.scope == "layer" else (cell.batch, 3, cell.res_h, cell.res_w)


def _bytes_of(module: nn.Module) -> int:
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))


def _same(mine: Tensor, original: Tensor) -> bool:
    return torch.equal(mine, original.to(mine.device))


def _finite(what: str, tensor: Tensor) -> None:
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        bad = tensor.numel() - int(torch.isfinite(tensor).sum())
        raise ContractError(f"the {what} must be finite; got {bad} of {tensor.numel()} values that are NaN or infinite")


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
