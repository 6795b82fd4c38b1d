"""A sweep in parts: together its cells, no comparison group in two, and no part of a whole sweep twice."""

from __future__ import annotations

from itertools import combinations

import pytest

from attnbench import registry
from attnbench.planning.cut import cut, name
from attnbench.planning.sweep import Sweep, plan

SWEEPS = {
    "layers": Sweep(mechanism=("hilo", "sra"), res=((32, 32), (48, 64)), batch=(1, 8), kernel=("eager", "sdpa")),
    "shapes": Sweep(mechanism=("hilo",), dim=(24, 48), heads=(3, 6), settings=(("hilo.alpha", (0.0, 0.5)),)),
    "layers and models": Sweep(
        mechanism=("hilo",), backbone=("litv2_s",), dim=(24, 48), heads=(3,), pass_=("forward", "train"),
        settings=(("hilo.alpha", (0.0, 0.5)),), isolate=("hilo",),
    ),
    "every layer": Sweep(res=((32, 32), (64, 64)), precision=("fp32", "bf16"), threads=(1, 2)),
}  # fmt: skip


@pytest.mark.parametrize("sweep", SWEEPS.values(), ids=SWEEPS)
def test_the_parts_have_the_cells_of_the_sweep_each_once_and_every_group_whole(sweep):
    known = registry.load(entry_points=False)
    whole = plan(sweep, known)
    parts = cut(sweep)
    planned = [plan(part, known, all_may_decline=True) for part in parts]
    cells = [cell.id for made in planned for cell in made.cells]
    assert sorted(cells) == sorted(cell.id for cell in whole.cells)
    groups = [set(made.groups()) for made in planned]
    assert all(not a & b for a, b in combinations(groups, 2))
    assert {k: why for made in planned for k, why in made.declined.items()} == dict(whole.declined)
    assert len({name(part) for part in parts}) == len(parts)


def test_a_part_leaves_to_its_machine_what_the_sweep_does_not_say():
    (part,) = cut(Sweep(device=("cuda:1",)))
    assert (part.batch, part.precision, part.threads) == ((), (), ())
    assert name(part).startswith("224x224-cuda1-forward-")
