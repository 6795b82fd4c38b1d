"""timm's models by their own names, `timm:NAME[settings]`: each is declared when it is asked for.

Paper   one for each model; timm's documentation names it
Agrees  with the model of `timm.create_model(NAME)` with the same weights, whose state dict it has
        (tests/backbones/test_timm_models.py)
Differs built without weights, for the image's size where the constructor takes `img_size`. `eager` switches timm's
        fused attention off in every layer that has the switch, `sdpa` on in all of them, whatever timm's default is;
        a model without the switch has `eager` alone. Settings are the words of the model's class that are
        a number, a word or a switch.

Shapes  images [B,3,h,w] -> logits [B,classes]
Cost    no closed formula: counted on the model itself

What a model takes is asked of the model, built on the `meta` device, where it has neither values nor memory.
"""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from attnbench.errors import AttnbenchError
from attnbench.registry.catalogue import catalogue
from attnbench.registry.declaration import BUILT_FROM, Declaration, Resolution, Setting
from attnbench.registry.variant import value_text
from mechanisms.backbones import libraries, parts
from mechanisms.backbones.wrapped import LibraryModel

NAMESPACE = "timm"
LARGEST_SETTING = 10_000  # of a whole number: a model is built in Python, layer by layer
_OURS = (*BUILT_FROM, "num_classes", "img_size", "in_chans", "device", "dtype")


@dataclass(frozen=True)
class Facts:
    """What a model says of itself.

    Attributes:
        settings: the parameters of its class that can be typed, by name, with timm's defaults.
        image: (height, width) in pixels that it is made for.
        fused: whether any of its layers has timm's switch of fused attention.
    """

    settings: Mapping[str, inspect.Parameter]
    image: Resolution
    fused: bool


def create(
    name: str, resolution: Resolution | None, num_classes: int, settings: Mapping[str, Setting] | None = None
) -> nn.Module:
    """Build timm's model without weights; for images of (height, width) pixels where its constructor takes a size.

    Args:
        name: timm's.
        resolution: None: the size that it is made for.
        num_classes: of its classifier.
        settings: of its class.

    Raises:
        AttnbenchError: timm is not installed, or cannot be imported.
    """
    timm = libraries.imported("timm")
    words = {**(settings or {}), "num_classes": num_classes, "pretrained": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm's of its own deprecated words
        if resolution is None:
            return _module(timm.create_model(name, **words))
        try:
            return _module(timm.create_model(name, **words, img_size=resolution))
        except TypeError as error:
            if "img_size" not in str(error):
                raise
            return _module(timm.create_model(name, **words))


def _module(built: object) -> nn.Module:
    if not isinstance(built, nn.Module):
        raise TypeError(f"timm.create_model must give a module; got {type(built).__name__}")
    return built


@cache
def facts(name: str) -> Facts:
    """Ask timm's model `name` what it takes.

    Raises:
        AttnbenchError: timm is not installed, or has no such model.
    """
    if reason := libraries.absent("timm"):
        raise AttnbenchError(reason)
    timm = libraries.imported("timm")
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.4)
        hint = f"nearest: {', '.join(f'{NAMESPACE}:{n}' for n in near)}" if near else "timm.list_models() has them"
        raise AttnbenchError(f"timm {timm.__version__} has no model of this name; got {name!r}; {hint}")
    with torch.device("meta"):
        model = create(name, None, 1000)
    h, w = timm.get_pretrained_cfg(name).input_size[1:]
    return Facts(_settings(type(model)), (int(h), int(w)), any(hasattr(m, "fused_attn") for m in model.modules()))


def _settings(kind: type[nn.Module]) -> dict[str, inspect.Parameter]:
    return {
        name: p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=inspect.Parameter.empty)
        for name, p in inspect.signature(kind).parameters.items()
        if name not in _OURS and (p.default is None or isinstance(p.default, bool | int | float | str))
    }


@cache
def refusal(name: str, resolution: Resolution, num_classes: int, settings: tuple[tuple[str, Setting], ...]) -> str:
    """Why the model cannot be built for images of (height, width) pixels with these settings; empty where it can."""
    large = [f"{key}={value}" for key, value in settings if type(value) is int and abs(value) > LARGEST_SETTING]
    if large:
        return f"whole numbers of timm's settings are at most {LARGEST_SETTING}; got {', '.join(large)}"
    made_for = facts(name).image
    if resolution == made_for and not settings:
        return ""
    error = _error(name, resolution, num_classes, settings)
    if not error:
        return ""
    with_ = f" with {','.join(f'{key}={value_text(value)}' for key, value in settings)}" if settings else ""
    if resolution == made_for or _error(name, made_for, num_classes, settings):
        return f"timm cannot build {name}{with_}: {error}"
    sizes = ["x".join(map(str, size)) for size in (made_for, resolution)]
    return f"timm's {name}{with_} needs images of {sizes[0]}; got {sizes[1]}: {error}"


def _error(name: str, resolution: Resolution, num_classes: int, settings: tuple[tuple[str, Setting], ...]) -> str:
    """What goes wrong when the model is built and called on the meta device; empty where nothing does."""
    try:
        with torch.device("meta"), torch.no_grad():
            create(name, resolution, num_classes, dict(settings)).eval()(torch.empty(1, 3, *resolution))
    except Exception as error:  # timm's constructors check by assert, by index, by broadcasting
        if isinstance(error, NotImplementedError) and "meta" in str(error).lower():
            return ""  # an operator that the meta device lacks
        first = (str(error).strip().splitlines() or [""])[0]
        return f"{type(error).__name__}: {first}" if first else type(error).__name__
    return ""


@catalogue(NAMESPACE)
def declare(name: str) -> Declaration:
    """The declaration of timm's model `name`.

    Raises:
        AttnbenchError: timm is not installed, or has no such model.
    """
    known = facts(name)
    kernels = ("eager", "sdpa") if known.fused else ("eager",)

    def given(settings: Mapping[str, Setting]) -> dict[str, Setting]:
        return {key: value for key, value in settings.items() if key in known.settings}

    def build(resolution: Resolution, *, num_classes: int, **settings: Setting) -> LibraryModel:
        model = create(name, resolution, num_classes, settings)
        return LibraryModel(model, kernels=kernels)

    def refuses(resolution: Resolution, num_classes: int, **settings: Setting) -> str | None:
        reason = parts.refuses(num_classes)
        return reason or refusal(name, resolution, num_classes, tuple(given(settings).items())) or None

    shown = [
        inspect.Parameter("resolution", inspect.Parameter.POSITIONAL_OR_KEYWORD),
        inspect.Parameter("num_classes", inspect.Parameter.KEYWORD_ONLY),
        *known.settings.values(),
    ]
    for function in (build, refuses):
        function.__signature__ = inspect.Signature(shown)  # type: ignore[union-attr]  # what inspect reads
    return Declaration(
        name=name,
        title=f"{name} of timm",
        scope="backbone",
        defaults={"num_classes": 1000},
        refuses=refuses,
        kernels=kernels,
        pyramid=(),
        notes={"library": f"timm's {name}, built without weights"},
        build=build,
        source=__file__,
    )
