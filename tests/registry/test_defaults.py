"""The stored copy of the declared defaults is the declarations'."""

from importlib.resources import files

from attnbench import registry
from attnbench.registry.defaults import FILE, declared_defaults, declared_mixing, text


def test_the_stored_defaults_are_those_of_the_declarations():
    stored = (files("attnbench.registry") / FILE).read_text()
    builtin = [d for d in registry.load(entry_points=False) if d.build.__module__.split(".")[0] == registry.BUILTIN]
    assert stored == text(builtin), "run `make docs` and commit what it changes"


def test_defaults_read_without_torch_are_those_that_a_layer_is_built_with_at_every_stride():
    for declaration in registry.load(entry_points=False):
        if declaration.build.__module__.split(".")[0] != registry.BUILTIN:
            continue  # declared by another test of this process
        for stride in (0, 4, 8, 16, 32):
            assert declared_defaults(declaration.name, stride) == declaration.settings_at(stride), declaration.name


def test_a_plugin_has_no_stored_defaults():
    assert declared_defaults("no_such_mechanism", 16) == {}


def test_kind_and_reach_are_read_without_torch():
    found = {name: declared_mixing(name) for name in ("msa", "xca", "cswin", "window", "van", "gfnet", "ss2d")}
    assert found == {
        "msa": ("attention", "global"), "xca": ("attention", "global"), "cswin": ("attention", "sparse"),
        "window": ("attention", "local"), "van": ("gate", "local"), "gfnet": ("fourier", "global"),
        "ss2d": ("state-space", "global"),
    }  # fmt: skip
    assert declared_mixing("resnet50") == ("convolution", "")
    assert declared_mixing("no_such_mechanism") is None


def test_a_layer_that_is_no_attention_says_so():
    others = {d.name: d.kind for d in registry.load(entry_points=False) if d.scope == "layer" and d.kind != "attention"}
    assert others == {
        "gfnet": "fourier", "hornet": "gate", "lightvit_biattn": "gate", "mambavision": "state-space",
        "poolformer": "pooling", "ss2d": "state-space", "ssd": "state-space", "van": "gate",
    }  # fmt: skip
