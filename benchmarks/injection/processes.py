"""Faults of processes: signals, a wall clock that jumps, memory that ends, hostile layers, programs left behind."""

from __future__ import annotations

import random
import resource
import runpy
import signal
import sys
import time

from attnbench.results import store
from injection import preludes
from injection.session import ROOT, Inject, Run, marked


def signals(target: str, number: signal.Signals, *, resumed: bool = False) -> Inject:
    """Send a signal to a process of the run; `resumed`: SIGCONT follows."""

    def inject(run: Run, rng: random.Random) -> int:
        hits, survives = 0, resumed or target == "worker" or (target == "server" and number != signal.SIGSTOP)
        with run.start() as session:
            for again in range(rng.randint(3, 8) if survives else 1):
                if not session.wait_for_instant(rng, 1.5 if again else 10) or not session.send(target, number):
                    break
                hits += run.hit()
                if resumed:
                    time.sleep(rng.uniform(0.01, 0.5))
                    session.send(target, signal.SIGCONT)
            if number == signal.SIGSTOP and not resumed and target in ("runner", "group"):
                time.sleep(rng.uniform(0.1, 1.0))  # nothing can end by itself now; its user ends it
                session.send("group", signal.SIGKILL)
            elif survives and rng.random() < 0.5:
                session.send("group", signal.SIGKILL)  # so that one run takes many faults
            session.end(4, 130)
        return hits

    return inject


def clock(run: Run, rng: random.Random) -> int:
    """The wall clock is set back, or forth, in all processes of the session."""
    by = rng.choice((-1, -1, 1)) * rng.choice((60, 3600, 86_400, 30 * 365 * 86_400)) * rng.random()
    with run.start(prelude=preludes.CLOCK.format(calls=rng.randrange(40), by=by)) as session:
        session.wait_for_instant(rng, 12)
        session.send("group", signal.SIGKILL)
        session.end()
        return run.hit(int(session.sign.exists()))


def memory_limit(run: Run, rng: random.Random) -> int:
    """A small --memory-limit: trials end there."""
    run.request += ["--memory-limit", f"{rng.randrange(1, 64)}KiB"]
    with run.start() as session:
        session.end()
    return run.hit(int('"oom"' in (run.folder / store.RECORDS).read_text()))


def address_space(run: Run, rng: random.Random) -> int:
    """A limit on the memory of every process (`ulimit -v`); the next session has none."""
    limit = rng.randrange(900, 3000) << 20
    with run.start(
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    ) as session:
        session.end(4)
    return run.hit()


def hostile_layers(run: Run, rng: random.Random) -> int:
    """Layers that raise, exit, hang, forge, flood or change their process; msa and sra must be whole beside them."""
    sys.path.append(str(ROOT / "tests"))
    plugins = runpy.run_path(str(ROOT / "tests" / "plugins.py"))
    tests = runpy.run_path(str(ROOT / "tests" / "execution" / "test_hostile.py"))
    form = rng.choice((tests["LATE"], tests["AT_ONCE"]))
    bodies = {**plugins["HOSTILE"], "writes": tests["WRITES"] + "\n        return x * 1"}
    bodies |= {name: form.format(body) for name, (body, _) in tests["HOSTILE"].items()}
    chosen = rng.sample(sorted(bodies), 4)
    plugin = plugins["write_plugin"](run.base / "hostile.py", {name: bodies[name] for name in chosen})
    place = run.request.index("-m") + 1
    run.request[place] = ",".join(["msa", "sra", *chosen])
    run.request += ["--plugin", str(plugin), "--memory-limit", "1GiB"]
    with run.start() as session:
        session.end()
    for record in store.open_run(run.folder).records:
        whole = (record.outcome, record.values.get("rounds")) == ("ok", 4)
        if record.cell.mechanism in ("msa", "sra") and not whole:
            run.problem("wrong", f"{record.cell.variant} is {record.outcome}: {record.reason}")
    return run.hit(len(chosen))


def left_behind(run: Run, rng: random.Random) -> int:
    """A layer starts programs in sessions of their own, and a process of the run is killed meanwhile."""
    body = "import subprocess; p = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
    body += "        p.returncode = 0; del p; return self.line(x)"
    plugin = runpy.run_path(str(ROOT / "tests" / "plugins.py"))["write_plugin"](
        run.base / "starts.py", {"starts": body}
    )
    run.request[run.request.index("-m") + 1] = "msa,sra,starts"
    run.request += ["--plugin", str(plugin)]
    target = rng.choice(("worker", "server", "runner", "runner"))
    number = rng.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGHUP))
    with run.start() as session:
        while session.process.poll() is None and not any("sleep" in name for _, name in marked(session.mark)):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        hit = run.hit(int(session.send(target, number)))
        session.end(4)
    return hit
