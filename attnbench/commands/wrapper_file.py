"""`attnbench new --wrap MODULE:CLASS`: a file that wraps somebody else's layer, and what looking at it left open.

The class is built small and called with each layout that such layers have. What that cannot show is a question in the
file, not a guess.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from attnbench import inputs
from attnbench.errors import AttnbenchError
from attnbench.registry.declared import OTHER_NAMES

DIM, HEADS, GRID = 96, 3, (5, 7)  # of the layer that is built to look at it
_SWITCHES = ("fused_attn", "use_sdpa", "use_fused_attn", "fused")  # attributes that choose PyTorch's fused function
_TEMPLATE = '''\
"""{name}: {origin}, wrapped.

Paper   OPEN: where it is described
Agrees  with {package}, whose class runs here
Differs nothing
Shapes  B images, N = H W tokens, C channels
Cost    OPEN: multiply-accumulates per image
"""

from torch import Tensor, nn

from attnbench.declaration import {imports}
from {module} import {cls}

{questions}

@mechanism(name="{name}", title="{cls} of {top}", kernels={kernels})
class {title}({bases}):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__({arguments}) -> None:
        super().__init__()
        self.layer = {cls}({given})
{use_kernel}
    def forward(self, x: Tensor) -> Tensor:
        """Call the wrapped layer."""
        B, H, W, C = x.shape
        {call}
'''
_USE_KERNEL = '''        self.use_kernel("eager")

    def use_kernel(self, kernel: str) -> None:
        """Compute with `kernel` from the next call on."""
        super().use_kernel(kernel)
        self.layer.{switch} = kernel == "sdpa"
'''


@dataclass(frozen=True)
class Form:
    """One way to call a layer, as a function and as source; `{y}` stands for the tensor in what the call returns."""

    name: str
    call: Callable[[nn.Module, Tensor], Any]
    back: Callable[[Tensor], Tensor]
    source: str


def _tokens(x: Tensor) -> Tensor:
    return x.flatten(1, 2)


def _grid(y: Tensor) -> Tensor:
    return y.view(len(y), *GRID, -1)


_OF_TOKENS = "{y}.view(B, H, W, C)"
FORMS = (
    Form("[B,N,C], H, W", lambda f, x: f(_tokens(x), *x.shape[1:3]), _grid,
         "y = self.layer(x.reshape(B, H * W, C), H, W)\n        return " + _OF_TOKENS),
    Form("[B,N,C]", lambda f, x: f(_tokens(x)), _grid,
         "y = self.layer(x.reshape(B, H * W, C))\n        return " + _OF_TOKENS),
    Form("query, key, value of [B,N,C]", lambda f, x: f(*[_tokens(x)] * 3), _grid,
         "t = x.reshape(B, H * W, C)\n        y = self.layer(t, t, t)\n        return " + _OF_TOKENS),
    Form("[B,C,H,W]", lambda f, x: f(x.permute(0, 3, 1, 2)), lambda y: y.permute(0, 2, 3, 1),
         "y = self.layer(x.permute(0, 3, 1, 2))\n        return {y}.permute(0, 2, 3, 1)"),
    Form("[B,H,W,C]", lambda f, x: f(x), lambda y: y, "y = self.layer(x)\n        return {y}"),
)  # fmt: skip


@dataclass
class Findings:
    """What was found out about a class, and the questions that stay open."""

    given: dict[str, str] = field(default_factory=dict)  # the class's parameter -> source of its argument
    takes: list[str] = field(default_factory=list)  # of dim, heads, grid: what the wrapper needs
    switch: str = ""
    call: str = ""
    questions: list[str] = field(default_factory=list)


def default_name(target: str) -> str:
    """`timm_attention` for timm.models.vision_transformer:Attention."""
    module, _, cls = target.partition(":")
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls).lower()
    return f"{module.partition('.')[0]}_{snake}"


def write(name: str, target: str) -> tuple[str, list[str]]:
    """The text of the wrapper's file, and the open questions.

    Raises:
        AttnbenchError: the target is no class of layers that can be imported.
    """
    cls = layer_class(target)
    found = examine(cls)
    found.questions += [
        "macs: no formula is declared; counts are then not compared with one",
        "reach: which tokens may influence an output? It is then not judged",
        "growth: does the memory grow linearly with the tokens, or faster?",
    ]
    module, _, cls_name = target.partition(":")
    top = module.partition(".")[0]
    arguments = ", ".join(["self", *(f"{word}: {_TYPES[word]}" for word in found.takes)])
    text = _TEMPLATE.format(
        name=name, origin=target, package=top, module=module, cls=cls_name, top=top,
        imports="ReadsKernel, mechanism" if found.switch else "mechanism",
        questions="\n".join(["# Looking at the class left this open; answer it, and remove the line:",
                             *(f"# OPEN {question}" for question in found.questions)]) + "\n",
        kernels='("eager", "sdpa")' if found.switch else '("eager",)',
        title="Wrapped" + cls_name, bases="ReadsKernel, nn.Module" if found.switch else "nn.Module",
        arguments=arguments, given=", ".join(f"{key}={value}" for key, value in found.given.items()),
        use_kernel=_USE_KERNEL.format(switch=found.switch) if found.switch else "", call=found.call,
    )  # fmt: skip
    return text, found.questions


_TYPES = {"dim": "int", "heads": "int", "grid": "tuple[int, int]"}


def layer_class(target: str) -> type[nn.Module]:
    """The class at MODULE:CLASS.

    Raises:
        AttnbenchError: it cannot be imported, or is no nn.Module.
    """
    module, colon, name = target.partition(":")
    if not colon or not all(map(inputs.is_name, (*module.split("."), name))):
        raise AttnbenchError(
            f"--wrap takes MODULE:CLASS; got {inputs.brief(target)}; e.g. timm.models.vision_transformer:Attention"
        )
    try:
        found = getattr(importlib.import_module(module), name, None)
    except (Exception, SystemExit) as error:  # a module's code may raise anything
        why = inputs.describe_error(error)
        raise AttnbenchError(f"--wrap imports the class; {module} cannot be imported: {why}") from error
    if not _is_layer(found):
        known = vars(importlib.import_module(module)).items()
        layers = [key for key, value in known if _is_layer(value) and value.__module__ == module]
        what = "lacks" if found is None else "has as something else"
        raise AttnbenchError(
            f"--wrap takes a class of torch.nn.Module; got {name}, which {module} {what}; "
            f"it has: {', '.join(sorted(layers)[:10]) or 'none'}"
        )
    return found


def _is_layer(value: object) -> TypeGuard[type[nn.Module]]:
    return isinstance(value, type) and issubclass(value, nn.Module)


def examine(cls: type[nn.Module]) -> Findings:
    """Build the class small, and see how it can be called."""
    found = Findings()
    values = _arguments(cls, found)
    layer, why = None, ""
    try:
        torch.manual_seed(0)
        layer = cls(**values).eval()
    except (Exception, SystemExit) as error:  # somebody else's code
        why = inputs.describe_error(error)
    form, rest = FORMS[1], ""
    if layer is None:
        found.questions.append(f"forward: the class could not be built to look at it: {why}")
    else:
        fits = [(form, part) for form in FORMS if (part := _part(layer, form)) is not None]
        if fits:
            form, rest = fits[0]
        if len(fits) != 1:
            names = ", ".join(f"({form.name})" for form, _ in fits) or "none of " + "; ".join(f.name for f in FORMS)
            found.questions.append(f"forward: the layouts that keep the shape are {names}; is ({form.name}) the one?")
        found.switch = next((word for word in _SWITCHES if isinstance(getattr(layer, word, None), bool)), "")
        if not found.switch and "scaled_dot_product_attention" in _source(cls):
            found.questions.append(
                "kernels: forward calls scaled_dot_product_attention whatever the kernel is; how is it switched off?"
            )
    found.call = form.source.format(y=f"y{rest}")
    return found


def _arguments(cls: type[nn.Module], found: Findings) -> Mapping[str, Any]:
    """The arguments of the small layer; those of the wrapper go into `found`."""
    known: dict[str, Any] = {"dim": DIM, "heads": HEADS, "grid": GRID}
    values: dict[str, Any] = {}
    kept = []
    for name, parameter in inspect.signature(cls).parameters.items():
        ours = next((word for word in known if name == word or name in OTHER_NAMES[word]), "")
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            continue
        if ours and ours not in found.takes:
            values[name], found.given[name] = known[ours], ours
            found.takes.append(ours)
        elif name == "batch_first":
            values[name], found.given[name] = True, "True"
        elif parameter.default is inspect.Parameter.empty:
            found.given[name] = "..."
            found.questions.append(f"{name}: __init__ needs it; which value, or which setting, is it?")
        elif isinstance(parameter.default, bool | int | float | str):
            kept.append(f"{name}={parameter.default!r}")
    if "dim" not in found.takes:
        found.takes.insert(0, "dim")
        found.questions.append("dim: no parameter of __init__ is named as the channels usually are")
    if "heads" not in found.takes:
        found.questions.append("heads: no parameter of __init__ is named as the number of heads usually is")
    if kept:
        found.questions.append(
            f"defaults: these keep the class's own values; declare what you sweep: {', '.join(kept)}"
        )
    return values


def _part(layer: nn.Module, form: Form) -> str | None:
    """Where in the output the tensor of the input's shape stands: `` or `[0]`; None where the form does not fit."""
    x = torch.randn(2, *GRID, DIM, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            y = form.call(layer, x)
        for rest, tensor in (("", y), *((f"[{i}]", part) for i, part in enumerate(y) if isinstance(y, tuple | list))):
            if isinstance(tensor, Tensor) and form.back(tensor).shape == x.shape:
                return rest
    except (Exception, SystemExit):  # somebody else's code, called in a way that it may not have
        return None
    return None


def _source(cls: type[nn.Module]) -> str:
    try:
        return inspect.getsource(cls)
    except (OSError, TypeError):
        return ""
