"""The commands as functions, for scripts and notebooks: a run folder, a DataFrame, plain values, or files."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

    from attnbench.execution.progress import Watcher
    from attnbench.planning.sweep import Sweep

__all__ = ["claims", "compare", "recommend", "run"]


def run(
    sweep: Sweep,
    out: Path | str | None = None,
    *,
    progress: bool | None = None,
    watcher: Watcher | None = None,
    command: str = "",
) -> Path:
    """Measure a sweep into a run folder; the same call resumes a run that was ended.

    Mechanisms that were declared in a notebook are written to files for the worker processes. A cell that could not be
    measured is told on stderr.

    Args:
        sweep: what to measure.
        out: the run folder; by default one under runs/ named by the plan.
        progress: show a bar on stderr; None: on a terminal and in a notebook.
        watcher: receives the progress instead.
        command: what resumes the run, for the record.

    Returns:
        The run folder.

    Raises:
        AttnbenchError: a request that cannot be served, or a folder that cannot be used.
        Interrupted: Ctrl-C; the same call resumes.
    """
    from attnbench import inert, registry
    from attnbench.commands.plan import time_left
    from attnbench.execution import runner
    from attnbench.execution.progress import Bar, Silent, in_notebook, stderr_console
    from attnbench.machine import user_cache
    from attnbench.results.store import open_run

    named = (*sweep.mechanism, *sweep.backbone, *sweep.task)
    files = registry.notebook_files(named, user_cache.folder())
    planned, known = runner.make_plan(replace(sweep, plugins=(*sweep.plugins, *files)))
    shown = progress if progress is not None else sys.stderr.isatty() or in_notebook()
    folder = Path(out) if out else runner.default_folder(planned)
    runner.execute(
        planned, folder, watcher=watcher or (Bar(time_left(planned, known)) if shown else Silent()), command=command
    )
    lost = [r for r in open_run(folder).records if r.outcome not in ("ok", "declined")]
    if lost and not shown and watcher is None:
        first = f"{lost[0].cell.variant} is {lost[0].outcome}: {lost[0].reason}"
        text = f"{len(lost)} of {len(planned.cells)} cells were not measured; the first, {first}"
        stderr_console().print(inert.terminal(text), markup=False, soft_wrap=True)
    return folder


def compare(
    a: Path | str, b: Path | str | None = None, *, arms: tuple[str, ...] | list[str] = (),
    by: Literal["time", "ratio"] = "time", margin: float = 0.03, level: float = 0.95, across_machines: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """Run `b` against run `a`, or later `arms` of `a` against the first: one row a comparison.

    `estimate` is a speed ratio with its interval: above 1, `b` (the later arm) is faster. `verdict` is faster, slower,
    equivalent or undecided, after Holm's rule. What a reader must know first stands in `.attrs["notes"]`.

    Raises:
        AttnbenchError: a folder that is no run, two machines (unless `across_machines`, by ratio), or unknown arms.
    """
    import pandas as pd

    from attnbench.analysis import compare as analysis
    from attnbench.errors import AttnbenchError

    if (b is None) == (not arms):
        raise AttnbenchError("compare takes two runs, or one run with arms=('msa', 'hilo'); give one of the two")
    if b is None:
        found = analysis.compare_arms(a, arms, margin=margin, level=level)
    else:
        found = analysis.compare_runs(
            Path(a), Path(b), by=by, margin=margin, level=level, across_machines=across_machines
        )
    table = pd.DataFrame([row.as_dict() for row in found.rows])
    table.attrs |= {"title": found.title, "notes": list(found.notes)}
    return table


def recommend(
    *runs: Path | str, res: Any, device: str = "cpu", batch: int = 0, **question: Any
) -> list[dict[str, Any]]:
    """The fastest mechanisms for a size and a device: one answer a machine, as `attnbench recommend --json` prints it.

    Args:
        *runs: run folders; by default those under reports/runs.
        res: pixels: 512, "512x384" or (512, 384).
        device: `cpu` or `cuda`.
        batch: images; 0: 8 on a CPU, 64 on a GPU.
        **question: further fields of `attnbench.report.recommend.Question`: `kind`, `reach`, `memory` in bytes, ...

    Raises:
        AttnbenchError: a folder that is no run, or not one resolution.
    """
    from attnbench.errors import AttnbenchError
    from attnbench.planning.axis_values import as_tuple
    from attnbench.report import recommend as ranking
    from attnbench.report.evidence import gather, stored

    sizes = as_tuple("res", [res] if isinstance(res, tuple) else res)
    if not isinstance(sizes, tuple) or len(sizes) != 1:
        raise AttnbenchError(f"res must be one resolution, as 512 or (512, 384); got {res!r}")
    asked = ranking.Question(
        res=sizes[0], device=device, batch=batch or (8 if device.startswith("cpu") else 64), **question
    )
    return [ranking.as_dict(answer) for answer in ranking.recommend(gather([Path(r) for r in runs] or stored()), asked)]


def claims(*runs: Path | str) -> pd.DataFrame:
    """Every claim of the papers, judged by the records of `runs` [reports/runs/*]: one row a claim.

    Raises:
        AttnbenchError: a folder that is no run, or is damaged.
    """
    import pandas as pd

    from attnbench.report import claims as judging
    from attnbench.report.evidence import gather, stored

    judged = judging.judge(gather([Path(r) for r in runs] or stored()))
    return pd.DataFrame(
        {
            "claim": j.id, "verdict": j.verdict, "machine": j.machine, "statement": j.claim.statement,
            "reason": j.reason, "decided_by": j.command,
        }
        for j in judged
    )  # fmt: skip
