"""A real Slurm on this machine, for tests: munge, a controller and two nodes on loopback, in a folder of their own.

    with SlurmCluster(folder) as cluster:
        subprocess.run([...], env=cluster.environment)

Debian: apt-get install slurm-wlm munge; needs root, as Slurm starts jobs as their owner. Nothing of the system's own
Slurm or munge is touched. There is no accounting database, so that `sacct` answers nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "srun")
NODES = ("n1", "n2")
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"
_START_S = 30.0

_CONF = """
ClusterName=attnbench
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={controller}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=6
KillWait=2
InactiveLimit=0
MinJobAge=5
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=0,batch_sched_delay=0
JobRequeue=1
MailProg=/bin/true
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=1 RealMemory=2000 Feature=one State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=1 RealMemory=2000 Feature=two State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=60 State=UP OverSubscribe=EXCLUSIVE
"""


def missing() -> str:
    """Why no cluster can be started here; empty if one can."""
    lacking = [program for program in PROGRAMS if not shutil.which(program, path=_PATH)]
    if lacking:
        return f"Slurm is not installed: no {', '.join(lacking)} (Debian: slurm-wlm, munge)"
    return "" if os.geteuid() == 0 else "Slurm's daemons start jobs as their owner, which needs root"


class SlurmCluster:
    """Two nodes, n1 with the feature `one` and n2 with `two`, of one CPU each; stopped when it is left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._munged: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment in which Slurm's commands speak to this cluster."""
        return {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": _PATH}

    def __enter__(self) -> SlurmCluster:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        controller, first, second = _free_ports(3)
        host = socket.gethostname().partition(".")[0]
        conf = _CONF.format(folder=self.folder, host=host, controller=controller, first=first, second=second)
        (self.folder / "slurm.conf").write_text(conf)
        try:
            self._start_munge(key)
            self.ask("slurmctld", "-c")
            for node in NODES:
                self.start_node(node)
            self.wait_for(lambda: self.ask("sinfo", "-h", "-N", "-o", "%T").split() == ["idle", "idle"], _START_S)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def ask(self, *words: str, fails: bool = False) -> str:
        """What a command of Slurm prints; `fails`: it may fail."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=20, check=False)
        if done.returncode and not fails:
            raise RuntimeError(f"{' '.join(words)} failed: {done.stderr or done.stdout}")
        return done.stdout

    def wait_for(self, holds: object, seconds: float) -> None:
        """Wait until a function gives something true."""
        assert callable(holds)
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {seconds:g} s; the cluster's logs are in {self.folder}")
            time.sleep(0.1)

    def jobs(self) -> dict[str, str]:
        """The states of the jobs that have not ended, by id."""
        lines = self.ask("squeue", "-h", "-r", "-o", "%i|%T").splitlines()
        return {job: state for job, _, state in (line.partition("|") for line in lines)}

    def number(self, job: str) -> str:
        """The number of a job, of which a task of an array, `12_1`, has its own."""
        return self.ask("squeue", "-h", "-j", job, "-o", "%A").strip()

    def start_node(self, node: str) -> None:
        """Start the daemon of a node."""
        self.ask("slurmd", "-N", node)

    def kill_node(self, node: str) -> None:
        """End a node as a power cut does: its daemon and every process of its jobs."""
        for pid in [*self._pids(f"slurmd-{node}.pid"), *_of_node(node)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """Stop everything that was started, jobs too."""
        self.ask("scancel", "--full", "--user=root", fails=True)
        for node in NODES:
            self.kill_node(node)
        for pid in self._pids("slurmctld.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._munged:
            self._munged.kill()
            self._munged.wait()

    def _start_munge(self, key: Path) -> None:
        files = [f"--{name}={self.folder}/munge.{end}" for name, end in
                 (("socket", "socket"), ("pid-file", "pid"), ("log-file", "log"), ("seed-file", "seed"))]  # fmt: skip
        words = ["munged", "--foreground", "--force", f"--key-file={key}", *files]
        self._munged = subprocess.Popen(words, env=self.environment, stderr=subprocess.DEVNULL)
        self.wait_for((self.folder / "munge.socket").exists, _START_S)

    def _pids(self, file: str) -> list[int]:
        with contextlib.suppress(OSError, ValueError):
            return [int((self.folder / file).read_text())]
        return []


def _of_node(node: str) -> list[int]:
    """The processes of jobs on a node: those with its name in their environment, and the daemons that started them."""
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        with contextlib.suppress(OSError):
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if f"SLURMD_NODENAME={node}".encode() in environment:
                found.append(pid)
    return found


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as open_sockets:
        ports = []
        for _ in range(count):
            one = open_sockets.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            ports.append(one.getsockname()[1])
    return ports
