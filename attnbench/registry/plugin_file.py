"""How a plugin's file is named: FILE.py, or NAMESPACE=FILE.py for one version of a file beside another. No torch here.

What is declared while `base=old/file.py` is imported gets the prefix `base:`, so that two files may declare one name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from attnbench import inputs
from attnbench.errors import AttnbenchError

FORM = "a plugin is given as FILE.py or NAMESPACE=FILE.py"


@dataclass(frozen=True)
class PluginFile:
    """A plugin's path and the namespace of its mechanisms; empty for none."""

    path: str
    namespace: str = ""

    @property
    def origin(self) -> str:
        """What messages and `Registry.origins` call it: `plugin base=old/file.py`."""
        return f"plugin {self.namespace}={self.path}" if self.namespace else f"plugin {self.path}"

    def qualified(self, name: str) -> str:
        """The registered name of a mechanism that this file declares as `name`."""
        return f"{self.namespace}:{name}" if self.namespace else name


def parse_plugin(text: str) -> PluginFile:
    """Read FILE.py or NAMESPACE=FILE.py. A file whose own name has a `=` is written ./FILE.py.

    Raises:
        AttnbenchError: the namespace is no name, or the path is none.
    """
    path = inputs.path("--plugin", text)
    before, equals, after = path.partition("=")
    if not equals or "/" in before:
        return PluginFile(path)
    if not inputs.is_name(before):
        raise AttnbenchError(
            f"{FORM}; a namespace is an identifier of ASCII letters, digits and _, at most {inputs.LONGEST_NAME}; "
            f"got {inputs.brief(before)} in {inputs.brief(text)}; a file whose name has a = is given as ./FILE.py"
        )
    if not after:
        raise AttnbenchError(f"{FORM}; got {inputs.brief(text)}, which has no file")
    return PluginFile(inputs.path("--plugin", after), before)


def parse_plugins(texts: Iterable[str]) -> tuple[PluginFile, ...]:
    """Read several; one text may stand there twice, one namespace may not.

    Raises:
        AttnbenchError: one is malformed, or two files have one namespace.
    """
    found = tuple(dict.fromkeys(map(parse_plugin, texts)))
    by_namespace: dict[str, PluginFile] = {}
    for plugin in found:
        other = by_namespace.setdefault(plugin.namespace, plugin)
        if plugin.namespace and other != plugin:
            raise AttnbenchError(
                f"a namespace belongs to one file; got {plugin.namespace} for {inputs.brief(other.path)} and "
                f"{inputs.brief(plugin.path)}; choose another namespace"
            )
    return found
