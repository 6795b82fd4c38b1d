"""The conformance suite notices what is broken, in words, and lets through what is right."""

import inspect
import json
from pathlib import Path

import pytest
import torch
from support.in_process import fault, run_command
from torch import nn

from attnbench import registry, runtimes
from attnbench.commands import check, new
from attnbench.conformance import CHECKS, COMPILES, RUNTIMES, examine
from attnbench.conformance.influence import influence, peak_bytes
from attnbench.conformance.subject import Subject
from attnbench.errors import AttnbenchError
from attnbench.planning.cell import Cell
from attnbench.registry.variant import parse_variant
from attnbench.results.events import Exported, Failure, Trial

QUICK = tuple(name for name in CHECKS if name not in (*COMPILES, *RUNTIMES))
LAWS = tuple(name for name in QUICK if name != "export")
HEAD = """
import torch
from torch import nn
from attnbench import mechanism

@mechanism(name={name!r}, {declared})
class Mine(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.dim, self.heads = dim, heads
        self.line = nn.Linear(dim, dim)
        self.calls = 0
        {init}

    def forward(self, x):
        {forward}
"""


def file_of(tmp_path: Path, name: str, forward: str, declared: str = "", init: str = "pass") -> Path:
    """A plugin with one small mechanism."""
    path = tmp_path / f"{name}.py"
    path.write_text(HEAD.format(name=name, forward=forward, declared=declared, init=init))
    return path


def broken(tmp_path: Path, name: str, *changes: tuple[str, str]) -> Path:
    """A copy of a built-in mechanism's file under the name NAME_broken with pieces of its text replaced."""
    text = Path(inspect.getsourcefile(registry.load(entry_points=False)[name].build)).read_text()
    for old, other in (*changes, (f'name="{name}"', f'name="{name}_broken"')):
        assert old in text, f"{name}.py has no {old!r} any more: break it in another way"
        text = text.replace(old, other)
    path = tmp_path / f"{name}_broken.py"
    path.write_text(text)
    return path


def failures(path: Path, variant: str = "", against: str = "", only: tuple[str, ...] = LAWS) -> dict[str, str]:
    """What fails, by check."""
    known = registry.load([str(path)])
    other = parse_variant(against) if against else None
    report = examine(Subject(known, parse_variant(variant or path.stem), backend=None, against=other), only=only)
    return {f.check: f.reason for f in report.findings if f.outcome == "fail"}


def test_a_leaking_window_fails(tmp_path):
    path = broken(
        tmp_path, "window", ("x = pad_to(x, self.window_size)", "x = pad_to(x + x.roll(1, 2) / 9, self.window_size)")
    )
    assert "outside its declared reach" in failures(path)["reach"]


def test_a_wrong_scale_fails_against_the_original(tmp_path):
    path = broken(tmp_path, "msa", ("attend(q, k, v, kernel", "attend(q, k, v, scale=x.shape[-1] ** -0.5, kernel"))
    found = failures(path, against="msa")
    assert list(found) == ["against"]
    assert "differs from msa" in found["against"]


def test_swapped_height_and_width_fail(tmp_path):
    path = broken(
        tmp_path,
        "hilo",
        ("windows(self.h_qkv(x), ", "windows(self.h_qkv(x).view(len(x), x.shape[2], x.shape[1], -1), "),
        (
            "from_windows(y, self.window_size, *x.shape[1:3])",
            "from_windows(y, self.window_size, x.shape[2], x.shape[1]).view(*x.shape[:3], -1)",
        ),
    )
    assert "outside its declared reach" in failures(path, "hilo_broken[alpha=0.0]")["reach"]
    assert "differs from hilo" in failures(path, against="hilo")["against"]


def test_a_norm_that_mixes_the_batch_fails(tmp_path):
    path = broken(tmp_path, "sra", ("self.norm(reduced(x, self.sr))", "self.norm(reduced(x - x.mean(0), self.sr))"))
    assert "an image in a batch differs" in failures(path)["batch"]


def test_a_forgotten_bias_fails_against_the_original(tmp_path):
    path = broken(
        tmp_path, "van", ("self.proj_2 = nn.Conv2d(dim, dim, 1)", "self.proj_2 = nn.Conv2d(dim, dim, 1, bias=False)")
    )
    found = failures(path, against="van")
    assert "proj_2.bias" in found["against"]


@pytest.mark.parametrize(
    ("demand", "words", "declared", "init", "forward"),
    [
        ("shape", "the output is 2x1x0", "", "pass", "return self.line(x)[:, :, 1:]"),
        ("shape", "float32", "", "pass", "return self.line(x).float()"),
        ("shape", "not finite", "", "pass", "return self.line(x).log()"),
        ("shape", "wrote to its input", "", "pass", "return self.line(x.mul_(2))"),
        ("shape", "RuntimeError", "", "pass", "raise RuntimeError('the layer says no')"),
        ("shape", "SystemExit: 5", "", "pass", "import sys; sys.exit(5)"),
        ("shape", "declines every grid", "declines=lambda size: 'never'", "pass", "return x"),
        ("determinism", "two calls on the same image differ", "", "pass", "return self.line(x) + torch.rand(())"),
        ("determinism", "changed seen", "", "self.register_buffer('seen', torch.zeros(()))",
         "self.seen += 1; return self.line(x)"),
        ("determinism", "same output", "", "pass", "return self.line(torch.ones_like(x))"),
        ("determinism", "the same seed gave another w", "",
         "import os; self.register_buffer('w', torch.tensor(float(int.from_bytes(os.urandom(3)))))",
         "return self.line(x) * (1 + self.w)"),
        ("batch", "image in a batch differs", "", "pass", "return self.line(x) / x.std()"),
        ("kernels", "sdpa differs from eager", "kernels=('eager', 'sdpa')", "self.kernel = 'eager'",
         "f = nn.functional.scaled_dot_product_attention; y = self.line(x); "
         "return y if self.kernel == 'eager' else f(y, y, y)"),
        ("precision", "bfloat16", "", "pass", "return self.line(x) + torch.ones(self.dim, dtype=torch.float32)"),
        ("precision", "differs from float64", "", "pass",
         "return self.line(x) * (1.01 if x.dtype == torch.float32 else 1)"),
        ("gradients", "line.bias", "", "pass", "return nn.functional.linear(x, self.line.weight)"),
        ("gradients", "differs from the slope", "reach=lambda size, y, x: [(y, x)]", "pass",
         "return self.line(x) * x.detach()"),
        ("gradients", "token (0, 0)", "reach='global'", "pass", "y = self.line(x); y[:, 0, 0] = 0; return y"),
        ("reach", "does not see", "reach='global'", "pass", "return self.line(x)"),
        ("reach", "outside", "reach=lambda size, y, x: [(y, x)]", "pass",
         "return self.line(x) + x.mean(1, keepdim=True)"),
        ("macs", "the formula gives 7", "macs=lambda size: 7", "pass", "return self.line(x)"),
        ("macs", "no FLOP formula for aten::_fft", "", "pass", "return self.line(torch.fft.fft2(x).real)"),
        ("macs", "meta device", "", "pass", "return self.line(x) * (1 if x.sum().item() > 0 else 2)"),
        ("memory", "declared linear", "growth='linear'", "pass",
         "f = x.flatten(1, 2); return self.line((f @ f.transpose(1, 2) @ f).view(x.shape) / f.shape[1])"),
        ("memory", "declared quadratic", "growth='quadratic'", "pass", "return self.line(x)"),
        ("weights", "another output", "", "self.w = torch.rand(dim)",
         "return self.line(x) * self.w.to(x)"),
        ("autocast", "under autocast", "", "pass",
         "return x.index_add(1, torch.arange(x.shape[1]), self.line(x))"),
    ],
)  # fmt: skip
def test_each_demand_fails_on_what_breaks_it(tmp_path, demand, words, declared, init, forward, request):
    name = f"broken_{abs(hash(request.node.name)):x}"
    found = failures(file_of(tmp_path, name, forward, declared, init), only=("shape", demand))
    assert words in found.get(demand, ""), found


def test_every_failure_has_a_remedy_and_the_first_ends_the_examination(tmp_path):
    known = registry.load([str(file_of(tmp_path, "no_shape", "return x[:, :0]"))])
    report = examine(Subject(known, parse_variant("no_shape"), backend=None))
    assert [f.check for f in report.findings] == ["shape"]
    assert report.findings[0].remedy
    assert not report.passed


def test_declared_randomness_and_declared_coupling_pass(tmp_path):
    rolls = file_of(tmp_path, "rolls", "return self.line(x) + torch.rand(())", "random=True")
    assert failures(rolls) == {}
    coupled = file_of(tmp_path, "coupled", "return self.line(x) / x.std()", "batch_coupled='one scale for all'")
    assert failures(coupled) == {}


@pytest.mark.slow
def test_what_the_compiler_gets_wrong_fails(tmp_path):
    path = file_of(tmp_path, "differs", "return self.line(x) * (2 if torch.compiler.is_compiling() else 1)")
    known = registry.load([str(path)])
    report = examine(Subject(known, parse_variant("differs"), backend="aot_eager"), only=("compiled",))
    assert "compiled output differs" in report.findings[0].reason


def test_influence_is_exact_for_a_convolution():
    class Blur(nn.Module):
        def forward(self, x):
            return nn.functional.avg_pool2d(x.permute(0, 3, 1, 2), (3, 1), 1, (1, 0)).permute(0, 2, 3, 1)

    found = influence(Blur(), torch.randn(1, 4, 6, 2, dtype=torch.float64), [(0, 0), (2, 5)])
    assert found[0].nonzero().tolist() == [[0, 0], [1, 0]]
    assert found[1].nonzero().tolist() == [[1, 5], [2, 5], [3, 5]]


def test_a_mask_of_minus_a_hundred_is_no_influence_and_alone_is_the_same():
    class Masked(nn.Module):
        def forward(self, x):
            f = x.flatten(1, 2)
            mask = torch.full((f.shape[1],) * 2, -100.0, dtype=x.dtype).fill_diagonal_(0.0)
            return (((f @ f.transpose(1, 2)) * 0.01 + mask).softmax(-1) @ f).view(x.shape)

    x = torch.randn(1, 2, 3, 4, dtype=torch.float64)
    places = [(y, z) for y in range(2) for z in range(3)]
    for alone in (False, True):
        assert torch.equal(influence(Masked(), x, places, alone=alone).view(6, 6), torch.eye(6, dtype=torch.bool))


def test_peak_bytes_counts_what_is_alive_at_once():
    class Chain(nn.Module):
        def forward(self, x):
            y = x + 1  # 1 alive
            y = y.repeat(3, 1)  # 4, then 3
            return y * 2  # 6

    x = torch.empty(100, 10, device="meta")
    assert peak_bytes(Chain(), x) == 6 * x.nbytes


def test_the_width_grows_until_it_is_served(tmp_path):
    path = file_of(tmp_path, "wide", "return self.line(x)", "declines=lambda s: 'too thin' if s.dim < 64 else None")
    known = registry.load([str(path)])
    assert Subject(known, parse_variant("wide")).dim == 64


def test_new_writes_a_file_that_check_passes_and_never_overwrites(tmp_path):
    made = run_command(["new", "my_attention"], tmp_path)
    assert made.code == 0, made.err
    words = ["my_attention.py", "--no-compile", "--json", "--against", "msa"]
    checked = run_command(["check", *words], tmp_path)
    assert checked.code == 0, checked.out + checked.err
    (report,) = json.loads(checked.out)["reports"]
    assert report["passed"]
    assert {f["check"] for f in report["findings"]} == set(QUICK)
    (tmp_path / "my_attention.py").write_text("mine")
    again = run_command(["new", "my_attention"], tmp_path)
    assert (again.code, (tmp_path / "my_attention.py").read_text()) == (2, "mine")
    assert "is there already" in again.err


@pytest.mark.parametrize(
    ("name", "words"), [("my-attention", "identifier"), ("class", "identifier"), ("hilo", "hilo.py")]
)
def test_new_refuses_a_name(tmp_path, monkeypatch, name, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AttnbenchError, match=words):
        new.command.main([name], standalone_mode=False)
    assert list(tmp_path.iterdir()) == []


def test_what_a_mechanism_prints_does_not_spoil_the_json(tmp_path, capsys):
    path = file_of(tmp_path, "wordy", "print('hello'); return self.line(x)[:, :, 1:]")
    assert check.command.main([str(path), "--no-compile", "--json"], standalone_mode=False) == 1
    said = capsys.readouterr()
    assert not json.loads(said.out)["reports"][0]["passed"]
    assert "hello" in said.err


def test_check_ends_with_one_and_says_why_and_what_to_do(tmp_path):
    path = file_of(tmp_path, "cut", "return self.line(x)[:, :, 1:]")
    checked = run_command(["check", f"{path}:Mine", "--no-compile"], tmp_path)
    assert (checked.code, fault(checked)) == (1, "")
    assert "fail" in checked.out
    assert "-> keep the shape: map [B,H,W,C] to [B,H,W,C]" in checked.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hill"], "hilo"),
        (["nowhere.py:Mine"], "not there"),
        (["{file}:Yours"], "cut.py has: Mine"),
        (["hilo[window=2]"], "window_size"),
        ([], "--all"),
        (["msa", "--dim", "24"], "--heads"),
        (["{empty}"], "declares no mechanism"),
        (["{wrong}"], "SyntaxError"),
    ],
)
def test_check_refuses_in_a_sentence(tmp_path, words, message):
    places = {name: tmp_path / f"{name}.py" for name in ("empty", "wrong")}
    places["empty"].write_text("x = 1\n")
    places["wrong"].write_text("def (:\n")
    places["file"] = file_of(tmp_path, "cut", "return x")
    with pytest.raises(AttnbenchError, match=message):
        check.command.main([w.format(**places) for w in words], standalone_mode=False)


class Answers:
    """Stands for the processes that export and try a layer."""

    def __init__(self, exported: object, tried: object = None) -> None:
        self.exported, self.tried = exported, tried
        self.artifacts: dict[str, str] = {}

    def export(self, cell: Cell) -> object:
        self.cell = cell
        return self.exported

    def trial(self, cell: Cell) -> object:
        assert self.artifacts == {cell.id: "a.onnx"}
        return self.tried


FILE = Exported(cell="", artifact="a.onnx", values={"export_s": 2.0})
AGREES = Trial(cell="", values={"runtime_error": 2e-7}, words={"executed": "MatMul x2"})


@pytest.mark.parametrize(
    ("workers", "outcome", "reason", "remedy"),
    [
        (Answers(FILE, AGREES), "note", "error against eager 2e-07; exported in 2.0 s; ran MatMul x2", ""),
        (
            Answers(Failure(outcome="declined", reason="aten.x cannot be exported to ONNX")),
            "note", "export: declined: aten.x cannot be exported to ONNX", "other operators",
        ),
        (Answers(FILE, Failure(outcome="failed", reason="an error of 3")), "fail", "an error of 3", "being traced"),
        (Answers(Failure(outcome="timeout", reason="it hung")), "note", "export: timeout: it hung", "loops"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_a_runtime_makes_of_a_layer_is_a_row_with_the_remedy(
    runtime, workers, outcome, reason, remedy, monkeypatch
):
    monkeypatch.setattr(runtimes.Runtime, "require", lambda self: None)
    workers.artifacts.clear()
    subject = Subject(registry.load(entry_points=False), parse_variant("hilo"), backend=None, workers=workers)
    (found,) = examine(subject, only=(runtime,)).findings
    assert (found.check, found.outcome, found.reason) == (runtime, outcome, reason)
    assert remedy in found.remedy
    assert (workers.cell.runtime, workers.cell.grid, workers.cell.batch) == (runtime, (4, 6), 1)


def test_a_runtime_that_is_not_installed_is_a_row_with_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    subject = Subject(registry.load(entry_points=False), parse_variant("msa"), backend=None, workers=Answers(FILE))
    (found,) = examine(subject, only=("openvino",)).findings
    assert (found.outcome, "pip install 'attnbench[openvino]'" in found.reason) == ("note", True)


def test_runtimes_are_asked_only_where_they_are_asked_for():
    subject = Subject(registry.load(entry_points=False), parse_variant("msa"), backend=None)
    assert examine(subject, only=RUNTIMES).findings == ()
