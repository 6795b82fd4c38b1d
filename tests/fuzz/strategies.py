"""What people, files and plugins may give to each door: one strategy a door, for hypothesis.

A strategy mixes what is right, what is nearly right and what is nonsense, so that both answers of a door are tried.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

# Text that has broken readers of numbers, names, paths and terminals.
ODD_TEXT = st.one_of(
    st.sampled_from([
        "", " ", ",", "[", "]", "[]", "=", ".", "-", "--", "0", "-0", "00", "+1", "1_0", "1e3", "1.", ".5", "0x10",
        "nan", "NaN", "inf", "-inf", "Infinity", "1e400", "²", "٣", "１２", "½", "none", "all", "true", "π", "ｈｉｌｏ",
        "\x00", "\x1b[31m", "\u202e", "\ud800", "\udcff", "\n", "a\nb", "../..", "/dev/zero", "~", "$HOME", "%s", "{}",
        "=1+1",
        "9" * 30, "9" * 400, "9" * 5000, "x" * 300, "x" * 5000, "[" * 200, "hilo" + "[a=hilo" * 30, "1x2x3", "x",
        "1x", "x1",
    ]),
    st.text(max_size=20),
    st.text(alphabet="0123456789.,x[]=-+e_ aNnifhlo", max_size=30),
)  # fmt: skip
SMALL = st.integers(1, 4096)
ANY_INT = st.one_of(st.integers(-2, 300), st.integers(), st.sampled_from([2**31, 2**53, 2**63, 10**400]))


def listed(item: st.SearchStrategy[str], most: int = 4) -> st.SearchStrategy[str]:
    """A comma list of items, now and then one with a gap."""
    return st.lists(item, min_size=1, max_size=most).map(",".join)


def mostly(right: st.SearchStrategy[str], odd: st.SearchStrategy[str] = ODD_TEXT) -> st.SearchStrategy[str]:
    """Right text in nine cases of ten, odd text in the others."""
    return st.integers(0, 9).flatmap(lambda n: odd if n == 9 else right)


WHOLE = mostly(SMALL.map(str))
NUMBER = mostly(st.one_of(st.floats(0.001, 1000).map(str), SMALL.map(str)))
SIZE = mostly(st.tuples(st.one_of(SMALL.map(str), st.floats(0.1, 9).map(str)),
                        st.sampled_from(["GiB", "MiB", "KiB", "TiB", "GB", "", " GiB"])).map("".join))  # fmt: skip
SIDE = st.integers(1, 40).map(lambda n: str(16 * n))
RESOLUTION = mostly(st.one_of(SIDE, st.tuples(SIDE, SIDE).map("x".join)))
DEVICE = mostly(st.sampled_from(["cpu", "cpu:0", "cpu:1", "cuda", "cuda:0", "all"]))
MECHANISM = st.sampled_from(["msa", "hilo", "sra", "window", "quadtree", "hornet", "linformer", "focal", "dat"])
SETTING = st.sampled_from(["alpha", "window_size", "sr_ratio", "topk", "order", "self", "dim", "kernel", "s"])
VALUE = mostly(st.one_of(st.integers(-3, 12).map(str), st.floats(0, 1).map(str), st.sampled_from(["true", "msa"])))


@st.composite
def variants(draw: st.DrawFn) -> str:
    """`name[key=value,...]`, right or nearly so."""
    name = draw(mostly(MECHANISM))
    pairs = draw(st.lists(st.tuples(mostly(SETTING), VALUE), max_size=3))
    return f"{name}[{','.join(f'{k}={v}' for k, v in pairs)}]" if pairs else name


VARIANT = variants()
OPTIONS: dict[str, st.SearchStrategy[str]] = {
    "--mechanism": listed(VARIANT, 3),
    "--res": listed(RESOLUTION),
    "--batch": listed(WHOLE, 2),
    "--dim": listed(mostly(st.sampled_from(["24", "96", "768", "25"])), 2),
    "--heads": listed(mostly(st.sampled_from(["1", "3", "12", "7"])), 2),
    "--stride": listed(mostly(st.sampled_from(["4", "8", "16", "32"])), 2),
    "--device": listed(DEVICE, 2),
    "--precision": listed(mostly(st.sampled_from(["fp32", "tf32", "bf16", "fp16"])), 2),
    "--pass": listed(mostly(st.sampled_from(["forward", "train"])), 2),
    "--kernel": listed(mostly(st.sampled_from(["eager", "sdpa", "flex"])), 2),
    "--runtime": listed(mostly(st.sampled_from(["eager", "compile", "aoti", "onnxruntime", "openvino"])), 2),
    "--compile": listed(mostly(st.sampled_from(["yes", "no", "on", "off"])), 2),
    "--threads": listed(WHOLE, 2),
    "--allocator": listed(mostly(st.sampled_from(["pinned", "system"])), 2),
    "--measure": listed(mostly(st.sampled_from(["params", "macs", "latency", "energy"])), 2),
    "--reference": mostly(st.sampled_from(["none", "msa", "hilo"])),
    "--protocol": mostly(st.sampled_from(["quick", "standard", "paper"])),
    "--suite": mostly(st.sampled_from(["table4", "table1"])),
    "--rounds": WHOLE,
    "--processes": WHOLE,
    "--calls": WHOLE,
    "--target": NUMBER,
    "--budget": NUMBER,
    "--timeout": NUMBER,
    "--memory-limit": SIZE,
    "--seed": WHOLE,
    "--set": st.tuples(mostly(MECHANISM), mostly(SETTING), listed(VALUE)).map(lambda t: f"{t[0]}.{t[1]}={t[2]}"),
    "--backbone": mostly(st.sampled_from(["litv2_s", "litv2_s[attention=sra]", "resnet50", "hilo"])),
    "--task": mostly(st.sampled_from(["retinanet[backbone=litv2_s]", "semantic_fpn", "retinanet[backbone=nan]"])),
    "--plugin": ODD_TEXT,
    "--weights": ODD_TEXT,
    "--sweep": ODD_TEXT,
}


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """Words after `attnbench plan`: a few options, each with text of its kind; `-m` mostly given, to stay small."""
    names = draw(st.lists(st.sampled_from(list(OPTIONS)), min_size=1, max_size=3, unique=True))
    words = [word for name in names for word in (name, draw(OPTIONS[name]))]
    small = {"--mechanism", "--backbone", "--task", "--suite"} & set(names)
    return words if small else ["--mechanism", draw(MECHANISM), *words]


def toml_text(value: Any) -> str:
    """A value as TOML; text that TOML has no escape for is written raw, and so is wrong."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(toml_text, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{k}" = {toml_text(v)}' for k, v in value.items()) + "}"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' if isinstance(value, str) else str(value)


TOML_VALUE = st.recursive(
    st.one_of(st.booleans(), st.integers(-2, 2**65), st.floats(), ODD_TEXT.filter(lambda t: len(t) < 400)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("ab.=", max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
TOML_KEYS = (
    *(name[2:] for name in OPTIONS if name not in ("--sweep", "--set")),
    "set",
    "cold",
    "strict",
    "memory_limit",
)


@st.composite
def sweep_files(draw: st.DrawFn) -> str:
    """The text of a sweep file: known keys with values of any type, or damaged text."""
    lines = []
    for key in draw(st.lists(st.sampled_from(TOML_KEYS), max_size=3)):
        option = OPTIONS.get(f"--{key}")
        value: Any = draw(TOML_VALUE) if option is None or draw(st.booleans()) else draw(option)
        if key == "set" and draw(st.booleans()):
            value = {"hilo.alpha": draw(TOML_VALUE)}
        lines.append(f"{key} = {toml_text(value)}")
    if draw(st.integers(0, 9)) == 0:
        lines.append(draw(ODD_TEXT))
    return "\n".join(['mechanism = "hilo"', *lines] if not any("mechanism" in line for line in lines) else lines)


# Expressions of Python for a declaration's words, as text.
EXPRESSION = st.sampled_from([
    "None", "True", "1", "-1", "0", "10**400", "2**63", "0.5", "math.nan", "math.inf", "-0.0", "''", "'x'",
    "'x' * 10**6", r"'\ud800'", r"'\x1b[31m'", "b'x'", "[]", "[1]", "{}", "{'k': 1}", "{'k': math.nan}",
    "{'π': 1}", "{1: 2}", "()", "(1,)", "('eager',)", "['eager']", "('eager', 'sdpa')", "object()", "math",
    "lambda size: None", "lambda size: 7",
    "lambda size: 1 / 0", "lambda size: sys.exit(9)", "lambda size: os._exit(0)", "lambda size: 10**400",
    "lambda size: math.nan", "lambda size: -1", r"lambda size: '\ud800' * 10**6", "lambda size: ('eager',)",
    "lambda size: os.chdir('/')", "lambda size: (_ for _ in ()).throw(GeneratorExit)", "lambda: 1", "lambda a, b: 1",
    "lambda size: 'no'", "lambda size: float('inf')", "lambda size: [1] * 10**6", "lambda size: size.settings.clear()",
    "lambda k: None", "lambda dim, k: 'no'", "type('E', (Exception,), {'__str__': lambda s: 1})", "'global'", "'grid'",
])  # fmt: skip
DECLARED = ("title", "paper", "year", "repository", "scope", "defaults", "per_stride", "macs", "refuses", "declines",
            "kernels", "kernels_at", "layout", "reach", "growth", "approximates", "random", "batch_coupled", "pyramid",
            "heads_divide_dim", "notes")  # fmt: skip
RIGHT = {
    "title": ("'a title'",), "year": ("2020", "None"), "scope": ("'layer'", "'backbone'"), "layout": ("'tokens'",),
    "defaults": ("{'k': 0.5}", "{'k': 'word'}"), "per_stride": ("{16: {'k': 2}}",), "growth": ("'linear'", "None"),
    "macs": ("lambda size: size.tokens", "lambda size: 10**30"), "refuses": ("lambda k: None", "lambda dim: 'no'"),
    "declines": ("lambda size: None", "lambda size: 'no'"), "kernels": ("('eager', 'sdpa')", "['eager']"),
    "kernels_at": ("lambda size: ('eager',)", "lambda size: ['sdpa']"), "reach": ("'global'",), "random": ("True",),
    "notes": ("{'published': 'text'}",), "pyramid": ("(4, 8)", "()"), "heads_divide_dim": ("False",),
}  # fmt: skip
PLUGIN_HEAD = "import math, os, sys\nimport torch\nfrom attnbench import mechanism\n"
AT_IMPORT = st.sampled_from([""] * 12 + [
    "os._exit(0)", "sys.exit(0)", "os.chdir('/')", "raise GeneratorExit", "raise KeyError('\\ud800')", "1 / 0", "def (",
    "import nothing_of_that_name", "os.environ['ATTNBENCH_X'] = '1'", "torch.set_default_dtype(torch.float64)",
])  # fmt: skip


@st.composite
def plugins(draw: st.DrawFn) -> str:
    """The text of a plugin with one mechanism `odd`, some of whose words are nonsense."""
    words = {"defaults": "{'k': 1}"}
    for word in draw(st.lists(st.sampled_from(DECLARED), max_size=3, unique=True)):
        words[word] = draw(st.sampled_from(RIGHT[word]) if word in RIGHT and draw(st.booleans()) else EXPRESSION)
    name = draw(st.sampled_from(["'odd'"] * 19 + ["'π'", "'o' * 100", "3", "None", "''", "'ｏｄｄ'"]))
    named = ", ".join(f"{k}={v}" for k, v in words.items())
    parameters = draw(
        st.sampled_from(["dim, *, k"] * 12 + ["dim, heads, *, k", "*args", "self2", "dim, *, π=1", "k=1"])
    )
    made = f"@mechanism(name={name}, {named})\nclass Odd(torch.nn.Module):\n"
    return f"{PLUGIN_HEAD}{draw(AT_IMPORT)}\n{made}    def __init__(self, {parameters}): super().__init__()\n"


@st.composite
def checkpoint_bytes(draw: st.DrawFn, save: Callable[[io.BytesIO, bool], None]) -> bytes:
    """A healthy checkpoint, as `save` writes it in the new or the old form, with some bytes changed or cut."""
    buffer = io.BytesIO()
    save(buffer, draw(st.booleans()))
    data = bytearray(buffer.getvalue())
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(data) - 1))
        how = draw(st.sampled_from(["flip", "cut", "zero", "insert"]))
        if how == "flip":
            data[place] = draw(st.integers(0, 255))
        elif how == "cut":
            del data[max(1, place) :]
        elif how == "zero":
            data[place : place + 16] = bytes(len(data[place : place + 16]))
        else:
            data[place:place] = draw(st.binary(min_size=1, max_size=8))
    return bytes(data)
