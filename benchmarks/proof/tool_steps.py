"""Steps that ask the tool itself, as a user calls it, and judge its records. No torch here."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence

from attnbench.results.events import Round
from attnbench.results.flags import ran_fused
from attnbench.results.record import Record
from proof.check import Check, check, not_applicable, unfinished
from proof.context import ROOT, Context, ToolRun
from proof.files import CHILD, SERVER, Watch

HOSTILE = str(ROOT / "benchmarks" / "proof" / "hostile.py")
MEASURES = "memory,latency"
QUICK = ("--protocol", "quick")
FEW = ("--protocol", "quick", "--rounds", "2", "--processes", "1")
BIASED = ("shifted_window", "swin_v2", "focal", "neighborhood", "maxvit_block", "agent", "dat", "lightvit")
NO_TIME = "tiny layers judge no time"
NO_DRIVER = "the CPU has no driver, no queue and no memory of its own"


def tests(context: Context) -> list[Check]:
    """The tests that need a GPU; on the CPU those of them that a CPU can answer."""
    chosen = ["tests/gpu", "-k", "cpu"] if context.on_cpu else ["-m", "gpu"]
    report = context.out / "logs" / "tests.xml"
    words = ["-q", "-p", "no:cacheprovider", *chosen, f"--junit-xml={report}"]
    code = context.execute([sys.executable, "-m", "pytest", *words], cwd=ROOT)
    text = report.read_text() if report.exists() else ""
    counts = {w: sum(int(n) for n in re.findall(rf'{w}="(\d+)"', text)) for w in ("tests", "failures", "errors")}
    skipped = sorted(set(re.findall(r'type="pytest.skip" message="([^"]*)"', text)))
    seen = f"{counts['tests']} tests, {counts['failures'] + counts['errors']} failed"
    seen += f"; skipped because: {'; '.join(skipped)}" if skipped else ""
    return [check("tests of the device", "all pass", seen, code == 0 and counts["tests"] > 0)]


def doctor(context: Context) -> list[Check]:
    """What the tool says of the device before anything is measured."""
    command = [sys.executable, "-m", "attnbench", "doctor", "--json"]
    context.commands.append("attnbench doctor --json")
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    try:
        said = json.loads(done.stdout)
    except ValueError:
        return [check("doctor", "a description of the machine", f"exit code {done.returncode}", False)]
    kind = context.device.partition(":")[0]
    rows = [row for row in said["devices"] if row["name"].partition(":")[0] == kind]
    works = bool(rows) and all(row["works"] for row in rows)
    words = "; ".join(f"{row['name']}: {', '.join(row.get('precisions', ())) or row.get('reason')}" for row in rows)
    disturbed = "; ".join(said["disturbances"]) or "none"
    return [
        check(f"{kind} works", "every device of this kind computes", words or "no such device", works),
        check("disturbances", "none (each costs precision, none is a fault)", disturbed, True),
    ]


def quick(context: Context) -> list[Check]:
    """Kernels and precisions, the split of memory, and who has the driver's files open meanwhile."""
    sizes = context.sizes(("--res", "64", *FEW), QUICK)
    arms = ("msa", "window") if context.tiny else ("msa", "hilo", "window")
    axes = ("-m", ",".join(arms), "--kernel", "eager,sdpa", "--precision", "fp32,tf32,bf16", "--measure", MEASURES)
    with Watch() as watch:
        run = context.tool("quick", *axes, *sizes)
    ok = [r for r in run.records if r.outcome == "ok"]
    allowed = {"ok", "declined"}
    cells = 6 * len(arms)
    holds = run.code == 0 and len(run.records) == cells and {r.outcome for r in run.records} <= allowed and bool(ok)
    checks = [check(f"{cells} cells", "all ok, or declined with the reason", _outcomes(run.records), holds)]
    checks += [_kernels(ok, precision, context) for precision in ("fp32", "bf16")]
    unread = [r.cell.variant for r in ok if "gpu_unread" in r.flags]
    read = check(
        "clock and throttling",
        "read in every turn (attnbench[gpu])",
        ", ".join(unread) or "read",
        bool(ok) and not unread,
    )
    none = not_applicable("clock and throttling", "read in every turn", NO_DRIVER)
    checks += [_tf32(ok), _split(ok, context), _files(watch, context), none if context.on_cpu else read]
    return checks


def _kernels(ok: Sequence[Record], precision: str, context: Context) -> Check:
    wanted = ("flash",) if context.on_cpu else ("efficient",) if precision == "fp32" else ("flash", "cudnn")
    ran = sorted({r.words["kernel_ran"] for r in ok if (r.cell.kernel, r.cell.precision) == ("sdpa", precision)})
    if not ran:
        return not_applicable(f"sdpa in {precision}", " or ".join(wanted), f"no cell in {precision} was measured")
    fused = all(ran_fused(word) and any(w in word for w in wanted) for word in ran)
    return check(f"sdpa in {precision}", " or ".join(wanted), ", ".join(ran), fused)


def _tf32(ok: Sequence[Record]) -> Check:
    name, expected = "TF32 of msa", "faster than fp32"
    times = {r.cell.precision: r.values["latency_s"] for r in ok if (r.cell.variant, r.cell.kernel) == ("msa", "eager")}
    if not {"fp32", "tf32"} <= set(times):
        return not_applicable(name, expected, "this device has no TF32")
    return check(name, expected, f"{times['fp32'] / times['tf32']:.2f} times", times["tf32"] < times["fp32"])


def _split(ok: Sequence[Record], context: Context) -> Check:
    parts = ("weights_bytes", "input_bytes", "peak_growth_bytes")
    wrong = [
        f"{r.cell.variant} {r.cell.kernel} {r.cell.precision}"
        for r in ok
        if r.values.get("peak_memory_bytes") != sum(r.values.get(part, math.nan) for part in parts)
        or (not context.on_cpu and r.values.get("peak_reserved_bytes", 0) < r.values["peak_memory_bytes"] // 2)
    ]
    seen = f"{len(ok)} cells" if not wrong else f"not in {', '.join(wrong)}"
    return check(
        "memory", "peak = weights + input + growth; reserved not below half of it", seen, bool(ok) and not wrong
    )


def _files(watch: Watch, context: Context) -> Check:
    name, expected = "open files of the driver", "fork server 0, its children more"
    seen = ", ".join(f"{role} {count}" for role, count in sorted(watch.most.items())) or "no worker was seen"
    if context.on_cpu:
        return not_applicable(name, expected, f"{NO_DRIVER}; {seen}")
    return check(name, expected, seen, watch.most.get(SERVER) == 0 and watch.most.get(CHILD, 0) > 0)


def late(context: Context) -> list[Check]:
    """A layer that breaks the device while it is timed costs itself alone."""
    words = ("-m", "msa,hilo,late", "--plugin", HOSTILE, "--res", "64", "--dim", "24", "--heads", "3")
    run = context.tool("late", *words, "--protocol", "quick", "--rounds", "4", "--processes", "2")
    found = run.outcomes()
    wanted = {"msa": "ok", "hilo": "ok", "late": "crashed"}
    return [
        check("an assert on the device while timing", "late crashed, msa and hilo ok", _dict(found), found == wanted),
        check("exit code", "3", run.code, run.code == 3),
    ]


def hang(context: Context) -> list[Check]:
    """A layer that never returns is killed; the device serves the next one."""
    limit = "4" if context.on_cpu else "30"
    words = ("-m", "hangs,msa", "--plugin", HOSTILE, "--res", "64", "--dim", "24", "--heads", "3", "--timeout", limit)
    run = context.tool("hang", *words, *FEW, "--measure", "params,memory,latency")
    found = run.outcomes()
    wanted = {"msa": "ok", "hangs": "timeout"}
    return [check(f"a call that never returns ({limit} s)", "hangs timeout, msa ok", _dict(found), found == wanted)]


def oom(context: Context) -> list[Check]:
    """Under a limit of memory, what does not fit is `oom` and the rest is measured."""
    limit = "512MiB" if context.tiny or context.on_cpu else context.memory
    full = ("--res", "1024", "--batch", "64", *FEW)
    tiny = ("--dim", "24", "--heads", "6", "--res", "1024", "--batch", "1", *FEW)
    words = ("-m", "msa,window", "--memory-limit", limit, "--measure", "memory,latency")
    run = context.tool("oom", *words, *(tiny if context.tiny else full))
    found = run.outcomes()
    reasons = "; ".join(r.reason for r in run.records if r.outcome == "oom")
    return [
        check(f"memory of {limit}", "msa oom, window ok", _dict(found), found == {"msa": "oom", "window": "ok"}),
        check("exit code and reason", "0: running out of memory is data", f"{run.code}: {reasons}", run.code == 0),
    ]


def layers(context: Context, res: str) -> list[Check]:
    """Every layer at one resolution: outcomes, roofline, and which are bound by launches."""
    tiny = ("-m", "msa,ss2d,cascaded_group", "--res", "64", *FEW)
    full = ("--res", res, "--protocol", "quick", "--rounds", "6", "--processes", "1")
    run = context.tool(f"layers-{res}", *context.sizes(tiny, full))
    bad = [f"{r.cell.variant} {r.outcome}" for r in run.records if r.outcome not in ("ok", "declined")]
    seen = f"{_outcomes(run.records)}{': ' + ', '.join(bad) if bad else ''}"
    checks = [check(f"every layer at {res} px", "ok, or declined", seen, bool(run.records) and not bad)]
    shares = {r.cell.variant: r.values["roofline_share"] for r in run.records if "roofline_share" in r.values}
    most = max(shares, key=lambda name: shares[name], default="")
    seen = f"at most {shares[most]:.2f} ({most})" if most else "no share"
    checks.append(check("share of the roofline", "below 1", seen, bool(shares) and max(shares.values()) < 1))
    return [*checks, _launch_bound(context, run, res)]


def _launch_bound(context: Context, run: ToolRun, res: str) -> Check:
    flagged = {r.cell.variant for r in run.records if "launch_bound" in r.flags}
    slow = {"ss2d", "cascaded_group"} if res == "224" else set()
    expected = f"{', '.join(sorted(slow)) or 'some'} flagged at {res} px; msa is not"
    if context.on_cpu:
        return not_applicable("launch-bound layers", expected, f"{NO_DRIVER}")
    return check("launch-bound layers", expected, ", ".join(sorted(flagged)) or "none", slow <= flagged - {"msa"})


def errors(context: Context, precision: str, most: float) -> list[Check]:
    """Every layer against float64 on the CPU, eager and fused; and which attention operators ran."""
    tiny = ("-m", "msa,hilo,window", "--res", "64")
    axes = ("--kernel", "eager,sdpa", "--precision", precision, "--measure", "error", "--reference", "none")
    run = context.tool(f"errors-{precision}", *axes, *context.sizes(tiny, ("--res", "224", "--batch", "1")))
    fused = [r for r in run.records if r.outcome == "ok" and r.cell.kernel == "sdpa"]
    plain = sorted({f"{r.cell.variant} {r.cell.precision}" for r in fused if not ran_fused(r.words["kernel_ran"])})
    seen = f"not in {', '.join(plain)}" if plain else f"{len(fused)} cells"
    ran = check("sdpa runs a fused operator", "in every cell", seen, bool(fused) and not plain)
    return [_largest(run.records, precision, most), ran]


def _largest(records: Sequence[Record], precision: str, most: float) -> Check:
    found = {
        f"{r.cell.variant} {r.cell.kernel}": r.values["error_rms"]
        for r in records
        if r.cell.precision == precision and "error_rms" in r.values
    }
    over = sorted(name for name, error in found.items() if error > most)
    worst = max(found, key=lambda name: found[name], default="")
    seen = f"{len(found)} cells, at most {found[worst]:.1e} ({worst})" if found else "nothing was measured"
    seen += f"; above: {', '.join(over)}" if over else ""
    return check(f"error in {precision}", f"below {most:g} of float64's rms", seen, bool(found) and not over)


def train(context: Context) -> list[Check]:
    """Forward and backward with the fused kernel in bf16: every gradient finite, learned biases included."""
    axes = ("--pass", "train", "--kernel", "sdpa", "--precision", "bf16", "--measure", "memory")
    tiny = ("-m", "msa,swin_v2", "--res", "64")
    run = context.tool("train", *axes, *context.sizes(tiny, ("--res", "224", "--batch", "8")))
    bad = [f"{r.cell.variant} {r.outcome}: {r.reason}" for r in run.records if r.outcome not in ("ok", "declined")]
    seen = "; ".join([_outcomes(run.records), *bad])
    ran = {r.cell.variant: r.words["kernel_ran"] for r in run.records if r.outcome == "ok" and r.cell.variant in BIASED}
    operators = ", ".join(f"{variant}: {words}" for variant, words in ran.items()) or "no such layer"
    return [
        check("training through sdpa in bf16", "ok, or no such kernel", seen, bool(run.records) and not bad),
        check("operators under a learned bias", "not cuDNN's, which has no derivative for it", operators,
              bool(ran) and not any("cudnn" in words for words in ran.values())),
    ]  # fmt: skip


def compile_all(context: Context) -> list[Check]:
    """Every layer compiles as one graph."""
    name, expected = "every layer with --compile yes", "ok, without a graph break"
    if context.on_cpu:
        return [not_applicable(name, expected, "minutes of C++ compilation; the tests compile every layer")]
    sizes = context.sizes(("-m", "msa,hilo", "--res", "64"), ("--res", "224", "--batch", "8"))
    run = context.tool("compile", "--compile", "yes", "--measure", "memory", *sizes)
    bad = [f"{r.cell.variant} {r.outcome}: {r.reason}" for r in run.records if r.outcome not in ("ok", "declined")]
    return [check(name, expected, "; ".join([_outcomes(run.records), *bad]), bool(run.records) and not bad)]


def energy(context: Context) -> list[Check]:
    """Joules per image, where the device has a counter."""
    name, expected = "energy", "joules per image above 0; idle power below active"
    run = context.tool("energy", "-m", "msa", "--measure", "energy", *context.sizes(("--res", "64"), ("--res", "224")))
    found = [r for r in run.records if r.outcome == "ok"]
    notes = "; ".join(r.words.get("energy_notes", "") for r in found) or _outcomes(run.records)
    joules = [r.values["energy_j_per_image"] for r in found if "energy_j_per_image" in r.values]
    if not joules:
        return [not_applicable(name, expected, notes)]
    source = ", ".join(r.words.get("energy_source", "") for r in found)
    idle, active = (found[0].values.get(key, math.nan) for key in ("idle_power_w", "active_power_w"))
    seen = f"{joules[0]:.2g} J by {source}; {idle:.0f} W idle, {active:.0f} W active"
    return [check(name, expected, seen, joules[0] > 0 and idle < active)]


def flex(context: Context) -> list[Check]:
    """Fused in company as alone: the ninth shape of a process must not fall back to the unfused form."""
    tiny = ("-m", "msa", "--res", "64", "--reference", "none", "--precision", "fp32", *FEW)
    full = ("--precision", "bf16", "--protocol", "quick", "--rounds", "4", "--processes", "1")
    run = context.tool("flex", "--kernel", "flex", "--measure", "latency", *context.sizes(tiny, full))
    ok = [r for r in run.records if r.outcome == "ok"]
    other = [r.cell.variant for r in ok if not r.words["kernel_ran"].startswith("flex")]
    ran = check("what ran", "flex in every cell", ", ".join(other) or "flex", bool(ok) and not other)
    return [_as_alone(context, run, "flex in company"), *([ran] if ok else [])]


def recompile(context: Context) -> list[Check]:
    """Ten compiled variants of one layer in a process are all compiled, beyond Dynamo's usual limit of eight."""
    alphas = ",".join(f"{tenth / 10:g}" for tenth in range(10))
    words = ("-m", "hilo", "--set", f"hilo.alpha={alphas}", "--compile", "yes", "--reference", "none")
    if context.on_cpu:
        return [not_applicable("ten compiled variants in company", "as in their trials", "minutes of C++ compilation")]
    run = context.tool("recompile", *words, "--measure", "latency", *context.sizes(("--res", "64", *FEW), FEW))
    return [_as_alone(context, run, "ten compiled variants in company")]


def _as_alone(context: Context, run: ToolRun, name: str) -> Check:
    """Whether no call among others took longer than 1.5 times that of the layer's trial, alone in its process."""
    expected = "each call within 1.5 times its trial's"
    alone = run.call_s()
    ok = [r for r in run.records if r.outcome == "ok"]
    bad = [f"{r.cell.variant} {r.outcome}: {r.reason}" for r in run.records if r.outcome not in ("ok", "declined")]
    if run.records and not ok and not bad:
        return not_applicable(name, expected, run.records[0].reason)
    times = {r.cell.variant: r.values["latency_s"] / alone[r.cell.id] for r in ok}
    slower = [f"{variant} {ratio:.1f}" for variant, ratio in times.items() if ratio > 1.5]
    seen = "; ".join(filter(None, (f"{len(ok)} cells", ", ".join(slower), ", ".join(bad))))
    if context.tiny and ok and not bad:
        return not_applicable(name, expected, f"{NO_TIME}; {seen}")
    return check(name, expected, seen, bool(ok) and not slower and not bad)


def graphs(context: Context) -> list[Check]:
    """Replayed CUDA graphs: no launches in the time, the same memory, and a refusal where a call cannot be captured."""
    name, expected = "graphs", "launch-bound layers are faster replayed than launched"
    shown = subprocess.run([sys.executable, "-m", "attnbench", "run", "--help"], capture_output=True, text=True)
    if "--graphs" not in shown.stdout:
        return [not_applicable(name, expected, "this version has no option --graphs")]
    if context.on_cpu:
        return [not_applicable(name, expected, NO_DRIVER)]
    axes = ("--batch", "1,64", "--pass", "forward,train", "--graphs", "no,yes", "--measure", MEASURES)
    run = context.tool("graphs", "-m", "msa,hilo,window,focal", "--res", "224", *axes, *FEW)
    pairs: dict[str, dict[bool, Record]] = {}
    for record in run.records:
        cell = record.cell
        pairs.setdefault(f"{cell.variant} {cell.pass_} {cell.batch}", {})[bool(getattr(cell, "graphs", False))] = record
    both = {
        k: (p[False].values, p[True].values) for k, p in pairs.items() if all(r.outcome == "ok" for r in p.values())
    }
    gains = {k: plain["latency_s"] / replayed["latency_s"] for k, (plain, replayed) in both.items()}
    peak = "peak_growth_bytes"
    other = [k for k, (plain, replayed) in both.items() if abs(replayed[peak] / max(plain[peak], 1) - 1) > 0.1]
    ones = {k: gain for k, gain in gains.items() if k.endswith(" 1")}
    seen = ", ".join(f"{k}: {gain:.2f}" for k, gain in gains.items()) or "nothing was measured in both forms"
    return [
        check("launched and replayed", "all ok", _outcomes(run.records), set(run.outcomes().values()) == {"ok"}),
        check("launched / replayed", "above 1.2 at batch 1 for some", seen, bool(ones) and max(ones.values()) > 1.2),
        check("growth of a replay", "within 10 % of the launched call's", ", ".join(other) or f"{len(both)} pairs",
              bool(both) and not other),
        *_refused_graphs(context),
    ]  # fmt: skip


def _refused_graphs(context: Context) -> list[Check]:
    few = ("--res", "64", "--dim", "24", "--heads", "3", "--batch", "1", "--graphs", "yes", *FEW)
    waits = context.tool("graphs-waits", "-m", "waits,msa", "--plugin", HOSTILE, *few)
    reason = "; ".join(r.reason for r in waits.records if r.cell.variant == "waits")
    found = waits.outcomes()
    wanted = {"waits": "failed", "msa": "ok"}
    compiled = context.tool("graphs-compiled", "-m", "msa", "--compile", "yes", *few)
    fused = context.tool("graphs-flex", "-m", "msa", "--kernel", "flex", *few)
    both = f"compiled {_outcomes(compiled.records)}, flex {_outcomes(fused.records)}"
    ok = all({r.outcome for r in run.records} == {"ok"} for run in (compiled, fused))
    return [
        check("a layer that waits for the GPU", "failed: cannot be captured; msa ok", f"{_dict(found)}: {reason}",
              found == wanted and "captured" in reason),
        check("graphs of compiled and flex layers", "ok", both, ok),
    ]  # fmt: skip


def paper(context: Context) -> list[Check]:
    """The authors' procedure: a process a layer, TF32 where there is one, no start of a library in a mean."""
    words = ("-m", "msa,hilo,window", "--protocol", "paper")
    run = context.tool("paper", *words, *context.sizes(("--res", "64", "--calls", "5"), ()))
    rounds = [e for e in run.events if isinstance(e, Round)]
    variants = {r.cell.id: r.cell.variant for r in run.records}
    precisions = sorted({r.cell.precision for r in run.records})
    wanted = ["fp32"] if context.on_cpu else ["tf32"]
    shares = {
        variants[t.cell]: (sum(t.calls_s) / len(t.calls_s)) / t.seconds for r in rounds for t in r.turns
    }  # the mean over the median: what the first calls add
    seen = ", ".join(f"{variant} {share:.2f}" for variant, share in shares.items()) or "no turn"
    first, others = next(iter(shares.values()), math.inf), list(shares.values())[1:]
    name, expected = "mean / median of a block", "the first layer pays no more than the others"
    return [
        check("precision of the record", ", ".join(wanted), ", ".join(precisions), precisions == wanted),
        not_applicable(name, expected, f"{NO_TIME}; {seen}")
        if context.tiny
        else check(name, expected, seen, bool(others) and first <= 1.5 * max(others)),
    ]


def second(context: Context) -> list[Check]:
    """Another device of the same kind, by its index."""
    from attnbench.machine.devices import present

    kind = context.device.partition(":")[0]
    there = [name for name in present() if name.partition(":")[0] == kind]
    name, expected = f"{kind}:1", "ok, in its own memory and on its own stream"
    if len(there) < 2:
        return [not_applicable(name, expected, f"this machine has {', '.join(there) or 'no such device'} alone")]
    run = context.tool("second", "-m", "msa,window", *context.sizes(("--res", "64", *FEW), FEW), device=there[1])
    return [check(name, expected, _outcomes(run.records), {r.outcome for r in run.records} == {"ok"})]


def reference(context: Context, name: str) -> list[Check]:
    """A published table's cells on this device, by its committed sweep."""
    sweep = ROOT / "benchmarks" / "reference" / f"{name}.toml"
    small = ("--batch", "1", "--rounds", "1", "--processes", "1", "--measure", "latency") if context.tiny else ()
    run = context.tool(f"reference-{name}", "--sweep", str(sweep), *small)
    expected = "every cell has its record"
    if run.code not in (0, 3):
        return [unfinished(name, expected, f"exit code {run.code} after {_outcomes(run.records)}; see {context.log}")]
    return [check(name, expected, _outcomes(run.records), run.code == 0)]


def _outcomes(records: Iterable[Record]) -> str:
    words = [r.outcome for r in records]
    return ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words)) or "no record"


def _dict(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {outcome}" for name, outcome in found.items()) or "no record"
