"""What every test shares: one thread, a cache folder of its own, and no plugin of an earlier test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that accepts what commands print as the texts that tests/commands/test_golden_text.py compares."""
    parser.addoption("--write-golden", action="store_true", help="write the golden texts of tests/commands/golden anew")


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither read nor write the user's cache; their child processes inherit the variable."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTNBENCH_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Layers of the tests' size lose by more threads than one, and waiting threads disturb whatever else runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _own_plugins() -> Iterator[None]:
    """A process remembers the plugin files that it has loaded; a test's are forgotten, so that names are free again."""
    from attnbench.registry import registry

    before = dict(registry._loaded)
    yield
    registry._loaded.clear()
    registry._loaded.update(before)
