"""The options that describe a sweep: on the command line, or in a TOML file with the same names. No torch.

An option on the command line overrides the file, and the file overrides the defaults.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Any

import click

from attnbench import inputs, runtimes
from attnbench.commands.completions import BY_OPTION
from attnbench.errors import AttnbenchError
from attnbench.inputs import brief
from attnbench.planning import protocol
from attnbench.planning.sizes import resolutions, seconds, size_bytes
from attnbench.planning.sweep import ALLOCATORS, MEASURES, MOST_THREADS, PASSES, PRECISIONS, PROBES, Sweep
from attnbench.planning.zipped import of_stage
from attnbench.registry.declaration import KERNELS
from attnbench.registry.plugin_file import parse_plugins
from attnbench.registry.variant import parse_value, split_list


def whole_numbers(name: str, text: str, *, most: int = inputs.MOST) -> tuple[int, ...]:
    """Read `1,64` as (1, 64); `name` is for the message.

    Raises:
        AttnbenchError: an item is not a whole number from 1 to `most`.
    """
    numbers = []
    for item in split_list(text):
        if inputs.parse_whole(item) is None:
            raise AttnbenchError(f"{name} must be a comma-separated list of whole numbers; got {brief(item)}")
        numbers.append(inputs.whole(name, item, most=most))
    return tuple(numbers)


def yes_no(name: str, text: str) -> tuple[bool, ...]:
    """Read `no,yes` as (False, True); `name` is for the message.

    Raises:
        AttnbenchError: an item is not a yes or a no.
    """
    values = {"no": False, "false": False, "off": False, "yes": True, "true": True, "on": True}
    switches = []
    for item in split_list(text):
        if item.lower() not in values:
            raise AttnbenchError(f"{name} must be no or yes; got {brief(item)}")
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


def _checkpoint(text: str) -> str:
    inputs.regular_file("--weights", text, kind="a checkpoint file")
    return text


# How the text of each option is read, from the command line and from a sweep file alike.
_READ: dict[str, Callable[[str], Any]] = {
    "mechanism": words,
    "backbone": words,
    "task": words,
    "res": resolutions,
    "batch": lambda t: whole_numbers("batch", t),
    "dim": lambda t: whole_numbers("dim", t),
    "heads": lambda t: whole_numbers("heads", t),
    "stride": lambda t: whole_numbers("stride", t),
    "stage": str.strip,
    "zip": words,
    "device": _devices,
    "precision": words,
    "pass": words,
    "kernel": words,
    "runtime": words,
    "compile": lambda t: yes_no("compile", t),
    "graphs": lambda t: yes_no("graphs", t),
    "threads": lambda t: whole_numbers("threads", t, most=MOST_THREADS),
    "allocator": words,
    "measure": words,
    "isolate": words,
    "reference": str.strip,
    "protocol": str.strip,
    "weights": _checkpoint,
    "seed": lambda t: inputs.whole("seed", t, least=0, most=inputs.MOST_SEED),
}
_FIELD = {"pass": "pass_"}
# The same of the numbers of a protocol.
_NUMBERS: dict[str, Callable[[str], float]] = {
    "rounds": lambda t: inputs.whole("rounds", t, most=protocol.MOST_ROUNDS),
    "processes": lambda t: inputs.whole("processes", t, most=protocol.MOST_ROUNDS),
    "calls": lambda t: inputs.whole("calls", t),
    "target": lambda t: inputs.positive("target", t, most=1e3),
    "budget": lambda t: inputs.positive("budget", t, most=protocol.LONGEST_S),
    "timeout": lambda t: inputs.positive("timeout", t, most=protocol.LONGEST_S),
    "memory_limit": size_bytes,
    "within": lambda t: seconds(t, most=protocol.LONGEST_S),
}
_SWITCHES = ("strict", "cold")
_OF_EXECUTOR = ("executor", "slurm")  # keys of a sweep file that say where it is measured
_DEEP_KEY = re.compile(rf"""(?<![\w"'-])(?:[\w"'-]++[ \t]*+\.[ \t]*+){{{2 * inputs.DEEPEST}}}""")
_ONE_VALUE = (*_NUMBERS, "stage", "reference", "protocol", "weights", "seed")


def _listed(name: str, *more: str, **words: Any) -> Callable[[Any], Any]:
    """An option whose value the shell completes."""
    return click.option(name, *more, shell_complete=BY_OPTION[name.removeprefix("--")], **words)


_OPTIONS = (
    _listed("--mechanism", "-m", metavar="LIST", help="Layers: hilo,msa,'hilo[alpha=0.5]'. [all]"),
    _listed("--backbone", metavar="LIST", help="Classifiers, e.g. litv2_s,'litv2_s[attention=sra]'."),
    _listed("--task", metavar="LIST", help="Detectors and segmenters, e.g. 'retinanet[backbone=litv2_s]'."),
    _listed("--suite", metavar="LIST", help="The cells of published tables, e.g. table4; see `list suites`."),
    click.option("--res", metavar="LIST", help="Pixels: 224 or 512x384 (height x width). [224]"),
    click.option("--batch", metavar="LIST", help="Images per batch. [8 on a CPU, 64 on a GPU]"),
    click.option("--dim", metavar="LIST", help="Channels of a layer. [768]"),
    click.option("--heads", metavar="LIST", help="Attention heads of a layer. [12]"),
    click.option("--stride", metavar="LIST", help="Pixels per token; selects the authors' settings. [16]"),
    click.option("--stage", metavar="NAME", help="Stride, dim and heads of LITv2's four stages: small or base."),
    click.option("--zip", metavar="LIST", help="Axes of equal length that advance together: stride,dim,heads."),
    _listed("--device", metavar="LIST", help="cpu, cuda, cuda:1, or all for every device present. [cpu]"),
    click.option("--precision", metavar="LIST", help=f"{', '.join(PRECISIONS)}. [fp32; paper on a GPU: tf32]"),
    click.option("--pass", "pass_", metavar="LIST", help=f"{', '.join(PASSES)} (forward and backward). [forward]"),
    click.option("--kernel", metavar="LIST", help=f"{', '.join(KERNELS)}. [eager]"),
    _listed("--runtime", metavar="LIST", help=f"{', '.join(runtimes.BUILTIN)}, or a plugin's. [eager]"),
    click.option("--compile", "compile_", metavar="LIST", help="no, yes: as --runtime eager,compile. [no]"),
    click.option("--graphs", metavar="LIST", help="no, yes: capture each call as a CUDA graph and replay it. [no]"),
    click.option("--threads", metavar="LIST", help="CPU threads. [one for each physical core]"),
    click.option("--allocator", metavar="LIST", help=f"Of the CPU: {', '.join(ALLOCATORS)}. [pinned]"),
    click.option("--set", "settings", multiple=True, metavar="M.S=LIST", help="Sweep a setting: hilo.alpha=0,0.5."),
    _listed("--reference", metavar="VARIANT", help="The arm that ratios refer to, or none. [msa]"),
    click.option("--measure", metavar="LIST", help=f"{', '.join((*MEASURES, *PROBES))}. [{','.join(MEASURES)}]"),
    click.option("--isolate", metavar="LIST", help="Arms timed in processes of their own: names, plugins or all."),
    _listed("--protocol", metavar="NAME", help=f"{', '.join(protocol.PROTOCOLS)}. [standard]"),
    click.option("--rounds", metavar="N", help="Rounds, instead of the protocol's."),
    click.option("--processes", metavar="N", help="Timing processes, instead of the protocol's."),
    click.option("--calls", metavar="N", help="Timed calls per turn, instead of the protocol's."),
    click.option("--target", metavar="SHARE", help="Relative half-width at which timing stops, e.g. 0.02."),
    click.option("--budget", metavar="SECONDS", help="Seconds of timing per arm and group."),
    click.option("--within", metavar="TIME", help="Wall time of the whole run, 30min; rounds go to who may lead."),
    click.option("--timeout", metavar="SECONDS", help="Seconds that one arm's trial may take."),
    click.option("--strict", is_flag=True, default=None, help="Take a turn again that something disturbed."),
    click.option("--cold", is_flag=True, default=None, help="Flush the caches before each timed call."),
    click.option(
        "--memory-limit", metavar="SIZE", help="Device memory that a worker process may use: 2GiB. [free memory]"
    ),
    click.option("--weights", metavar="PATH", help="A checkpoint file for the backbone."),
    click.option(
        "--plugin",
        "plugins",
        multiple=True,
        metavar="[NS=]PATH",
        help="A file with mechanisms; repeatable. With NS= they are called NS:NAME.",
    ),
    click.option("--seed", metavar="N", help="Random seed for inputs and arm order. [0]"),
    click.option("--sweep", "sweep_file", metavar="PATH", help="A TOML file with these option names as keys."),
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
    from_file = read_sweep_file(given["sweep_file"]) if given.get("sweep_file") is not None else {}
    typed = {k.rstrip("_"): v for k, v in given.items() if v is not None and v != () and k != "sweep_file"}
    both = {**from_file, **typed}
    if "suite" in both:
        both = {**_suite(str(both.pop("suite"))), **both}
    return _sweep(both)


def read_sweep_file(path: str) -> dict[str, Any]:
    """Read a TOML file: the options' names as keys, lists or comma-separated text as values.

    Returns:
        Text as it would be typed, by parameter name.

    Raises:
        AttnbenchError: the file cannot be read, is not TOML, or has an unknown key or a wrong value.
    """
    data = {key: value for key, value in _toml(path).items() if key not in _OF_EXECUTOR}
    known = {*_READ, *_NUMBERS, *_SWITCHES, "set", "plugin", "suite"}
    given: dict[str, Any] = {}
    for key, value in data.items():
        name = key.replace("-", "_")
        if name not in known or name in given:
            raise AttnbenchError(
                f"a sweep file may have the keys {', '.join(sorted(known)).replace('_', '-')}, each once; "
                f"got {inputs.printable(key, inputs.LONGEST_NAME)} in {path}"
            )
        try:
            given[name] = _toml_value(name, value)
            if name in _READ or name in _NUMBERS:
                {**_READ, **_NUMBERS}[name](given[name])  # so that the message names the file
        except AttnbenchError as error:
            raise AttnbenchError(f"{error} in {path}") from None
    for name, parameter in (("set", "settings"), ("plugin", "plugins")):
        if name in given:
            given[parameter] = given.pop(name)
    return given


def read_executor(path: str) -> dict[str, Any]:
    """What a sweep file says of where it is measured: the values of the table [slurm], and `executor`.

    Raises:
        AttnbenchError: the file cannot be read, or these have the wrong type.
    """
    data = _toml(path)
    table = data.get("slurm", {})
    if not isinstance(table, dict):
        raise AttnbenchError(f"slurm must be a table, [slurm]; got {brief(table)} in {path}")
    said = {key.replace("-", "_"): _list_text(key, value) for key, value in table.items()}
    return said | ({"executor": _list_text("executor", data["executor"])} if "executor" in data else {})


def _toml(path: str) -> dict[str, Any]:
    text = inputs.read_text("--sweep", path, kind="a TOML file", largest=inputs.LARGEST_SWEEP_FILE)
    try:
        if _DEEP_KEY.search(text):  # tomllib needs quadratic time for them
            raise ValueError(f"a key has more than {2 * inputs.DEEPEST} parts")
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        why = inputs.printable(str(error))
        raise AttnbenchError(f"--sweep must be a TOML file; {brief(path)} is not valid TOML: {why}") from error
    return data


def _toml_value(name: str, value: object) -> Any:
    """The value of a key as it would be typed: text, several texts of `set` and `plugin`, or a switch."""
    if name == "set":
        if not isinstance(value, dict):
            raise AttnbenchError(f'set must be a table such as {{"hilo.alpha" = [0, 0.5]}}; got {brief(value)}')
        return tuple(f"{k}={_list_text(k, v)}" for k, v in _flat(value))
    if name == "plugin":
        files = value if isinstance(value, list) else [value]
        return tuple(inputs.path("plugin", file) for file in files)
    if name in _SWITCHES:
        if not isinstance(value, bool):
            raise AttnbenchError(f"{name} must be true or false; got {brief(value)}")
        return value
    if name in _ONE_VALUE and isinstance(value, list):
        raise AttnbenchError(f"{name} must be one value; got {brief(value)}")
    return _list_text(name, value)


def _sweep(both: Mapping[str, Any]) -> Sweep:
    axes: dict[str, Any] = {}
    for key, value in both.items():
        name = key.rstrip("_")
        if name in _READ:
            axes[_FIELD.get(name, name)] = _READ[name](value) if isinstance(value, str) else value
    if "compile" in axes:
        if "runtime" in axes:
            raise AttnbenchError("--compile no,yes is another spelling of --runtime eager,compile; give one of them")
        axes["runtime"] = tuple(runtimes.COMPILE if yes else runtimes.EAGER for yes in axes.pop("compile"))
    if "settings" in both:
        axes["settings"] = tuple(_setting(text) for text in both["settings"])
    if "plugins" in both:
        parse_plugins(both["plugins"])  # for its messages, before anything is imported
        axes["plugins"] = tuple(both["plugins"])
    for key, read in _NUMBERS.items():
        if both.get(key) is not None:
            axes[key] = read(both[key]) if isinstance(both[key], str) else both[key]
    axes |= {key: True for key in _SWITCHES if both.get(key)}
    if "stage" in axes:
        axes |= of_stage(axes.pop("stage"), axes)
    sweep = Sweep(**axes)
    protocol.get(sweep.protocol, sweep.overrides)
    return sweep


def _setting(text: str) -> tuple[str, tuple[Any, ...]]:
    key, equals, values = text.partition("=")
    if not equals or "." not in key:
        raise AttnbenchError(f"--set must be mechanism.setting=value,...; got {brief(text)}; e.g. hilo.alpha=0,0.5,1")
    return key.strip(), tuple(parse_value(v) for v in split_list(values))


def _suite(name: str) -> dict[str, Any]:
    from attnbench.published.suites import suite

    return suite(name)


def _list_text(name: str, value: object) -> str:
    """A TOML value, or a list of them, as it would be typed."""
    if isinstance(value, list):
        return ",".join(_scalar_text(name, item) for item in value)
    return _scalar_text(name, value)


def _scalar_text(name: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value.bit_length() > 64:
        raise AttnbenchError(f"{inputs.printable(name)} has a number that is too large: {brief(value)}")
    if not isinstance(value, str | int | float):
        raise AttnbenchError(
            f"{inputs.printable(name, inputs.LONGEST_NAME)} must be text, a number, or a list of them; "
            f"got {brief(value)}"
        )
    return str(value)


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    if prefix.count(".") > inputs.DEEPEST:
        raise AttnbenchError(f"set must be a table of at most {inputs.DEEPEST} levels; got {brief(prefix)}")
    return [
        pair
        for key, value in table.items()
        for pair in (_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)])
    ]
