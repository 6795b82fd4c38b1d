"""The options that describe a sweep: on the command line, or in a TOML file with the same names. No torch.

An option on the command line overrides the file, and the file overrides the defaults.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from attnbench.errors import AttnbenchError
from attnbench.planning import protocol
from attnbench.planning.sizes import size_bytes
from attnbench.planning.sweep import ALLOCATORS, KERNELS, MEASURES, PASSES, PRECISIONS, PROBES, Sweep
from attnbench.registry.variant import parse_value, split_list


def whole_numbers(name: str, text: str) -> tuple[int, ...]:
    """Read `1,64` as (1, 64); `name` is for the message.

    Raises:
        AttnbenchError: an item is not a whole number.
    """
    numbers = []
    for item in split_list(text):
        try:
            numbers.append(int(item))
        except ValueError:
            raise AttnbenchError(f"{name} must be a comma-separated list of whole numbers; got {item!r}") from None
    return tuple(numbers)


def resolutions(text: str) -> tuple[tuple[int, int], ...]:
    """Read `224,512x384` as ((224, 224), (512, 384)): (height, width) in pixels.

    Raises:
        AttnbenchError: an item is neither N nor HxW with whole numbers of at least 1.
    """
    sizes = []
    for item in split_list(text):
        sides = item.lower().split("x")
        if len(sides) > 2 or not all(s.strip().isdigit() and int(s) > 0 for s in sides):
            raise AttnbenchError(
                f"resolution must be pixels, 224 or 512x384 (height x width), each at least 1; got {item!r}"
            )
        sizes.append((int(sides[0]), int(sides[-1])))
    return tuple(sizes)


def yes_no(text: str) -> tuple[bool, ...]:
    """Read `no,yes` as (False, True).

    Raises:
        AttnbenchError: an item is not a yes or a no.
    """
    values = {"no": False, "false": False, "off": False, "yes": True, "true": True, "on": True}
    switches = []
    for item in split_list(text):
        if item.lower() not in values:
            raise AttnbenchError(f"compile must be no or yes; got {item!r}")
        switches.append(values[item.lower()])
    return tuple(switches)


def words(text: str) -> tuple[str, ...]:
    """Read a comma-separated list; a comma inside brackets does not separate."""
    return tuple(split_list(text))


def _devices(text: str) -> tuple[str, ...]:
    if text.strip() != "all":
        return words(text)
    from attnbench.machine.devices import present

    return tuple(present())


_READ: dict[str, Callable[[str], Any]] = {
    "mechanism": words,
    "backbone": words,
    "task": words,
    "res": resolutions,
    "batch": lambda t: whole_numbers("batch", t),
    "dim": lambda t: whole_numbers("dim", t),
    "heads": lambda t: whole_numbers("heads", t),
    "stride": lambda t: whole_numbers("stride", t),
    "device": _devices,
    "precision": words,
    "pass": words,
    "kernel": words,
    "compile": yes_no,
    "threads": lambda t: whole_numbers("threads", t),
    "allocator": words,
    "measure": words,
    "reference": str,
    "protocol": str,
    "weights": str,
    "seed": lambda t: whole_numbers("seed", t)[0],
}
_FIELD = {"pass": "pass_"}
_NUMBERS = {"rounds": int, "processes": int, "calls": int, "target": float, "budget": float, "timeout": float}
_SWITCHES = ("strict", "cold")
_NUMBER_FIELD = {"budget": "budget_s", "timeout": "timeout_s"}


_OPTIONS = (
    click.option("--mechanism", "-m", metavar="LIST", help="Layers: hilo,msa,'hilo[alpha=0.5]'. [all]"),
    click.option("--backbone", metavar="LIST", help="Classifiers, e.g. litv2_s,'litv2_s[attention=sra]'."),
    click.option("--task", metavar="LIST", help="Detectors and segmenters, e.g. 'retinanet[backbone=litv2_s]'."),
    click.option("--suite", metavar="LIST", help="The cells of published tables, e.g. table4; see `list suites`."),
    click.option("--res", metavar="LIST", help="Pixels: 224 or 512x384 (height x width). [224]"),
    click.option("--batch", metavar="LIST", help="Images per batch. [8 on a CPU, 64 on a GPU]"),
    click.option("--dim", metavar="LIST", help="Channels of a layer. [768]"),
    click.option("--heads", metavar="LIST", help="Attention heads of a layer. [12]"),
    click.option("--stride", metavar="LIST", help="Pixels per token; selects the authors' settings. [16]"),
    click.option("--device", metavar="LIST", help="cpu, cuda, cuda:1, or all for every device present. [cpu]"),
    click.option("--precision", metavar="LIST", help=f"{', '.join(PRECISIONS)}. [fp32; paper on a GPU: tf32]"),
    click.option("--pass", "pass_", metavar="LIST", help=f"{', '.join(PASSES)} (forward and backward). [forward]"),
    click.option("--kernel", metavar="LIST", help=f"{', '.join(KERNELS)}. [eager]"),
    click.option("--compile", "compile_", metavar="LIST", help="no, yes: torch.compile. [no]"),
    click.option("--threads", metavar="LIST", help="CPU threads. [one for each physical core]"),
    click.option("--allocator", metavar="LIST", help=f"{', '.join(ALLOCATORS)}. [pinned]"),
    click.option("--set", "settings", multiple=True, metavar="M.S=LIST", help="Sweep a setting: hilo.alpha=0,0.5."),
    click.option("--reference", metavar="VARIANT", help="The arm that ratios refer to, or none. [msa]"),
    click.option("--measure", metavar="LIST", help=f"{', '.join((*MEASURES, *PROBES))}. [{','.join(MEASURES)}]"),
    click.option("--protocol", metavar="NAME", help=f"{', '.join(protocol.PROTOCOLS)}. [standard]"),
    click.option("--rounds", type=int, help="Rounds, instead of the protocol's."),
    click.option("--processes", type=int, help="Timing processes, instead of the protocol's."),
    click.option("--calls", type=int, help="Timed calls per turn, instead of the protocol's."),
    click.option("--target", type=float, help="Relative half-width at which timing stops, e.g. 0.02."),
    click.option("--budget", type=float, help="Seconds of timing per arm and group."),
    click.option("--timeout", type=float, help="Seconds that one arm's trial may take."),
    click.option("--strict", is_flag=True, default=None, help="Take a turn again that something disturbed."),
    click.option("--cold", is_flag=True, default=None, help="Flush the caches before each timed call."),
    click.option(
        "--memory-limit", metavar="SIZE", help="Device memory that a worker process may use: 2GiB. [free memory]"
    ),
    click.option("--weights", type=click.Path(), help="A checkpoint file for the backbone."),
    click.option("--plugin", "plugins", multiple=True, type=click.Path(), help="A file with mechanisms; repeatable."),
    click.option("--seed", type=int, help="Random seed for inputs and arm order. [0]"),
    click.option("--sweep", "sweep_file", type=click.Path(), help="A TOML file with these option names as keys."),
)


def sweep_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that describe a sweep to a command, in the order of `_OPTIONS`."""
    for decorate in reversed(_OPTIONS):
        function = decorate(function)
    return function


def read_sweep(given: Mapping[str, Any]) -> Sweep:
    """Make a sweep of the options' values, by parameter name; None and () stand for an absent option.

    Raises:
        AttnbenchError: an option's value is malformed or out of range, or the sweep file cannot be read.
    """
    from_file = read_sweep_file(Path(given["sweep_file"])) if given.get("sweep_file") else {}
    typed = {k.rstrip("_"): v for k, v in given.items() if v is not None and v != () and k != "sweep_file"}
    both = {**from_file, **typed}
    if "suite" in both:
        both = {**_suite(str(both.pop("suite"))), **both}
    return _sweep(both)


def read_sweep_file(path: Path) -> dict[str, Any]:
    """Read a TOML file: the options' names as keys, lists or comma-separated text as values.

    Raises:
        AttnbenchError: the file cannot be read, is not TOML, or has an unknown key or a wrong value.
    """
    try:
        data = tomllib.loads(path.read_text())
    except OSError as error:
        raise AttnbenchError(f"--sweep must be a TOML file; {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise AttnbenchError(f"--sweep must be a TOML file; {path} is not valid TOML: {error}") from error
    known = {*_READ, *_NUMBERS, *_SWITCHES, "set", "plugin", "suite", "memory-limit"}
    unknown = [key for key in data if key.replace("_", "-") not in {k.replace("_", "-") for k in known}]
    if unknown:
        raise AttnbenchError(
            f"a sweep file may have the keys {', '.join(sorted(known))}; got {', '.join(unknown)} in {path}"
        )
    given: dict[str, Any] = {}
    for key, value in data.items():
        if key == "set":
            if not isinstance(value, dict):
                raise AttnbenchError(
                    f'set must be a table such as {{"hilo.alpha" = [0, 0.5]}}; got {value!r} in {path}'
                )
            given["settings"] = tuple(f"{k}={_list_text(v)}" for k, v in _flat(value))
        elif key == "plugin":
            given["plugins"] = tuple(value) if isinstance(value, list) else (value,)
        elif key in _SWITCHES:
            if not isinstance(value, bool):
                raise AttnbenchError(f"{key} must be true or false; got {value!r} in {path}")
            given[key] = value
        elif key in _NUMBERS:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise AttnbenchError(f"{key} must be a number; got {value!r} in {path}")
            given[key] = value
        else:
            given[key.replace("-", "_")] = _list_text(value)
    return given


def _sweep(both: Mapping[str, Any]) -> Sweep:
    axes: dict[str, Any] = {}
    for key, value in both.items():
        name = key.rstrip("_")
        if name in _READ:
            axes[_FIELD.get(name, name)] = _READ[name](value) if isinstance(value, str) else value
    if "settings" in both:
        axes["settings"] = tuple(_setting(text) for text in both["settings"])
    if "plugins" in both:
        axes["plugins"] = tuple(both["plugins"])
    overrides = []
    for key in _NUMBERS:
        if both.get(key) is not None:
            value = both[key]
            if value <= 0:
                raise AttnbenchError(f"{key} must be above 0; got {value}")
            overrides.append(("looks", (value,)) if key == "rounds" else (_NUMBER_FIELD.get(key, key), value))
    for key in _SWITCHES:
        if both.get(key):
            overrides.append((key, True))
    if both.get("memory_limit"):
        overrides.append(("memory_limit", size_bytes(str(both["memory_limit"]))))
    axes["overrides"] = tuple(overrides)
    protocol.get(axes.get("protocol", "standard"), overrides)
    return Sweep(**axes)


def _setting(text: str) -> tuple[str, tuple[Any, ...]]:
    key, equals, values = text.partition("=")
    if not equals or "." not in key:
        raise AttnbenchError(f"--set must be mechanism.setting=value,...; got {text!r}; e.g. hilo.alpha=0,0.5,1")
    return key.strip(), tuple(parse_value(v) for v in split_list(values))


def _suite(name: str) -> dict[str, Any]:
    from attnbench.published.suites import suite

    return suite(name)


def _list_text(value: object) -> str:
    if isinstance(value, list):
        return ",".join(_list_text(v) for v in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    return [
        pair
        for key, value in table.items()
        for pair in (_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)])
    ]
