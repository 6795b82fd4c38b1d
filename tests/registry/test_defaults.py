"""The stored copy of the declared defaults is the declarations'."""

from importlib.resources import files

from attnbench import registry
from attnbench.registry.defaults import FILE, declared_defaults, generate


def test_the_stored_defaults_are_those_of_the_declarations():
    stored = (files("attnbench.registry") / FILE).read_text()
    assert stored == generate(), "run `python -m attnbench.registry.defaults` and commit what it changes"


def test_defaults_read_without_torch_are_those_that_a_layer_is_built_with_at_every_stride():
    known = registry.load(entry_points=False)
    for declaration in known:
        for stride in (0, 4, 8, 16, 32):
            assert declared_defaults(declaration.name, stride) == declaration.settings_at(stride), declaration.name


def test_a_plugin_has_no_stored_defaults():
    assert declared_defaults("no_such_mechanism", 16) == {}
