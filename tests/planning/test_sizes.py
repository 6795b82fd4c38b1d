from __future__ import annotations

import pytest

from attnbench.errors import AttnbenchError
from attnbench.planning.sizes import size_bytes

GIB = 2**30


@pytest.mark.parametrize(("text", "size"), [("4GiB", 4 * GIB), ("1.5MiB", 3 * 2**19), ("100", 100)])
def test_a_size_is_read(text: str, size: int) -> None:
    assert size_bytes(text) == size


@pytest.mark.parametrize("text", ["4GB", "", "-1GiB", "nan", "nanMiB", "1e30TiB", "0"])
def test_another_size_is_refused(text: str) -> None:
    with pytest.raises(AttnbenchError, match="a size is a number with KiB"):
        size_bytes(text)
