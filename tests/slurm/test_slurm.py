"""Sweeps by real Slurm jobs, on two nodes of this machine: whatever ends a job, the same command finishes the sweep."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from slurm_sweeps import FAULTS, SWEEP, assert_finished, ended, measuring, records, run
from support.slurm_cluster import SlurmCluster, missing

from attnbench.execution import runner
from attnbench.report.evidence import gather

pytest.importorskip("submitit", reason="submitit is not installed: pip install 'attnbench[slurm]'")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    with SlurmCluster(tmp_path_factory.mktemp("slurm")) as started:
        yield started


def test_an_array_measures_the_cells_of_the_plan_and_its_report_shows_those_of_a_local_run(cluster, tmp_path):
    code, errors = ended(run(cluster, tmp_path / "swept"), cluster)
    assert code == 0, errors
    assert "submitted 2 jobs" in errors
    assert "2 of 2 done" in errors
    assert_finished(tmp_path / "swept")
    local = runner.run(SWEEP, tmp_path / "local")
    swept, here = gather([tmp_path / "swept"]), gather([local])
    assert {p.cell.id for p in swept.ok} == {p.cell.id for p in here.ok}
    before = records(tmp_path / "swept")
    code, errors = ended(run(cluster, tmp_path / "swept"), cluster)
    assert (code, "submitted" in errors) == (0, False)
    assert records(tmp_path / "swept") == before


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_sweep_is_finished_whatever_happens_to_a_job_when(fault, cluster, tmp_path):
    process = run(cluster, tmp_path / "out")
    fault(cluster, measuring(cluster, tmp_path / "out"))
    before = records(tmp_path / "out")
    code, errors = ended(process, cluster)
    assert code == 0, errors
    assert_finished(tmp_path / "out")
    assert before.items() <= records(tmp_path / "out").items()


def test_of_two_commands_for_one_folder_one_is_refused_and_if_the_other_is_killed_it_is_resumed(cluster, tmp_path):
    both = [run(cluster, tmp_path / "out") for _ in range(2)]
    measuring(cluster, tmp_path / "out")
    cluster.wait_for(lambda: any(process.poll() is not None for process in both), 30)
    for process in both:
        process.kill()
    said = [(process.returncode, errors) for process in both for errors in [process.communicate()[1]]]
    assert sorted(code for code, _ in said) == [-9, 2]
    assert "in use by another process" in "".join(errors for code, errors in said if code == 2)
    code, errors = ended(run(cluster, tmp_path / "out"), cluster)
    assert code == 0, errors
    assert_finished(tmp_path / "out")
