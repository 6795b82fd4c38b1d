"""The stored copy of the declared defaults is the declarations'."""

from importlib.resources import files

from attnbench import registry
from attnbench.registry.defaults import FILE, declared_defaults, text


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
