"""Variants and plans: text there and back, every cell once, declines before anything is built."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbench import AttnbenchError, registry
from attnbench.planning.cell import Cell
from attnbench.planning.sweep import Sweep, plan
from attnbench.registry.variant import Variant, parse_value, parse_variant, split_list

NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
VALUES = st.one_of(
    st.booleans(),
    st.integers(-99, 99),
    st.floats(-9, 9, allow_nan=False),
    NAMES.filter(lambda s: s not in ("true", "false", "inf", "nan", "infinity")),
)


@given(NAMES, st.dictionaries(NAMES, VALUES, max_size=3))
def test_a_variant_is_read_as_it_is_written(name, settings):
    variant = Variant(name, tuple(settings.items()))
    assert parse_variant(str(variant)) == variant


def test_a_setting_may_be_a_variant_itself():
    found = parse_variant("litv2_s[attention=hilo[alpha=0.5,window_size=4],pooled=true]")
    assert dict(found.settings) == {"attention": "hilo[alpha=0.5,window_size=4]", "pooled": True}


@pytest.mark.parametrize(
    "text", ["", "hilo[", "hilo]", "hilo[alpha]", "hilo[alpha=]", "4hilo", "hilo[a=1,a=2]", "hilo[a=1]x"]
)
def test_what_is_no_variant_is_refused(text):
    with pytest.raises(AttnbenchError, match="got"):
        parse_variant(text)


@pytest.mark.parametrize("text", ["a,", ",a", "a,,b", "a[b", "a]b[", ""])
def test_a_list_with_a_gap_or_an_open_bracket_is_refused(text):
    with pytest.raises(AttnbenchError):
        split_list(text)


def test_the_type_of_a_value_follows_from_its_text():
    assert [parse_value(t) for t in ("true", "False", "4", "0.5", "1e-3", "word")] == [
        True,
        False,
        4,
        0.5,
        0.001,
        "word",
    ]


@pytest.fixture(scope="module")
def known():
    return registry.load(entry_points=False)


def test_a_plan_has_the_product_of_its_axes_and_every_id_once(known):
    made = plan(
        Sweep(mechanism=("msa", "hilo"), res=((224, 224), (384, 224)), kernel=("eager", "sdpa"), batch=(1, 2)), known
    )
    assert len(made.cells) == len({c.id for c in made.cells}) == 16
    assert {c.grid for c in made.cells} == {(14, 14), (24, 14)}
    assert len(made.groups()) == 4


def test_a_cell_survives_json(known):
    cell = plan(Sweep(mechanism=("hilo[alpha=0.5]",)), known).cells[-1]
    assert Cell.from_dict(cell.as_dict()) == cell
    assert Cell.from_dict(cell.as_dict()).id == cell.id


def test_the_reference_is_added_with_a_note(known):
    made = plan(Sweep(mechanism=("hilo",)), known)
    assert [c.variant for c in made.cells] == ["msa", "hilo"]
    assert made.notes == ("msa was added as the reference; to omit it, use --reference none",)


def test_two_spellings_of_the_same_settings_are_one_cell(known):
    made = plan(Sweep(mechanism=("hilo", "hilo[alpha=0.9]", "hilo[window_size=2,alpha=0.9]"), reference="none"), known)
    assert len(made.cells) == 1


def test_a_stride_brings_the_authors_settings(known):
    made = plan(Sweep(mechanism=("hilo",), stride=(16, 32), reference="none"), known)
    assert [dict(c.settings)["window_size"] for c in made.cells] == [2, 1]


def test_settings_are_swept_one_by_one(known):
    made = plan(Sweep(mechanism=("hilo",), settings=(("hilo.alpha", (0, 0.5)),), reference="none"), known)
    assert [c.variant for c in made.cells] == ["hilo[alpha=0.0]", "hilo[alpha=0.5]"]


def test_what_a_device_or_kernel_cannot_do_is_declined_with_the_reason(known):
    made = plan(Sweep(mechanism=("msa",), kernel=("eager", "flex"), pass_=("train",)), known)
    assert list(made.declined.values()) == [
        "flex_attention has no backward pass on the CPU; got kernel=flex, pass=train, device=cpu"
    ]


@pytest.mark.parametrize(("version", "declines"), [("2.5.1", True), ("2.6.0", False), ("2.13.0+cpu", False)])
def test_flex_on_the_cpu_is_declined_below_torch_2_6(known, monkeypatch, version, declines):
    monkeypatch.setattr("importlib.metadata.version", lambda package: version)
    made = plan(Sweep(mechanism=("msa",), kernel=("eager", "flex")), known)
    reason = "flex_attention runs on the CPU from torch 2.6; got kernel=flex, device=cpu, torch 2.5"
    assert list(made.declined.values()) == ([reason] if declines else [])


def test_a_sweep_in_which_every_cell_declines_is_refused(known):
    with pytest.raises(AttnbenchError, match="every cell of this sweep is declined, the first because: alpha must lie"):
        plan(Sweep(mechanism=("hilo[alpha=7]",), reference="none"), known)


def test_different_plans_have_different_hashes(known):
    def of(**words):
        return plan(Sweep(mechanism=("msa",), **words), known).hash

    assert len({of(), of(seed=1), of(protocol="quick"), of(batch=(1,)), of(measure=("macs",))}) == 5
    assert of() == of()


@pytest.mark.parametrize("scope", ["backbone", "task"])
def test_a_kernel_that_the_attention_inside_lacks_is_declined_in_the_plan(known, scope):
    inside = "litv2_s[attention=van]"
    variants = {
        "backbone": (inside, "litv2_s"),
        "task": (f"semantic_fpn[backbone={inside}]", "semantic_fpn[backbone=litv2_s]"),
    }[scope]
    found = plan(Sweep(**{scope: variants}, reference="none", kernel=("sdpa",)), known)
    assert list(found.declined.values()) == [f"{variants[0]} runs with kernel eager; got kernel=sdpa"]


def test_performers_batch_wide_stabiliser_is_declared_to_couple_images(known):
    performer = known["performer"]
    for stabiliser, coupled in (("sample", False), ("batch", True)):
        size = known.size(parse_variant(f"performer[stabiliser={stabiliser}]"))
        assert bool(performer.coupling(size)) is coupled


def test_a_precision_that_a_device_refuses_is_declined_before_anything_is_allocated(known):
    sweep = Sweep(mechanism=("msa",), device=("cuda",), precision=("fp32", "bf16"))
    planned = plan(sweep, known, refused={("cuda", "bf16"): "bf16 needs compute capability 8.0"})
    declined = {planned.declined.get(c.id, "") for c in planned.cells if c.precision == "bf16"}
    assert declined == {"bf16 needs compute capability 8.0"}
    assert not [c for c in planned.cells if c.precision == "fp32" and c.id in planned.declined]


def test_the_hosts_allocator_doubles_no_cell_of_a_gpu(known):
    sweep = Sweep(mechanism=("msa",), device=("cpu", "cuda"), allocator=("pinned", "system"))
    planned = plan(sweep, known)
    assert [(c.device, c.allocator) for c in planned.cells] == [
        ("cpu", "pinned"), ("cpu", "system"), ("cuda", "pinned"),
    ]  # fmt: skip
    assert planned.notes == ("the host's allocator does not act on a GPU; cuda: pinned is measured alone",)


def test_graphs_are_an_axis_beside_compile_and_declined_on_the_cpu(known):
    sweep = Sweep(mechanism=("msa",), device=("cpu", "cuda"), runtime=("eager", "compile"), graphs=(False, True))
    planned = plan(sweep, known)
    ways = [c.execution for c in planned.cells if c.device == "cuda"]
    assert ways == ["eager", "eager graphs", "eager compiled", "eager compiled graphs"]
    assert len(planned.groups()) == 2  # a graph is compared with the cell that it launches at once
    reasons = {planned.declined.get(c.id) for c in planned.cells if c.graphs and c.device == "cpu"}
    assert reasons == {"CUDA graphs need a CUDA device; got graphs=yes, device=cpu"}
    assert not [c for c in planned.cells if c.device == "cuda" and c.id in planned.declined]


def test_a_runtime_that_no_graph_can_capture_is_declined(known):
    sweep = Sweep(mechanism=("msa",), device=("cuda",), runtime=("eager", "onnxruntime"), graphs=(True,))
    planned = plan(sweep, known)
    eager, other = planned.cells
    assert eager.id not in planned.declined
    assert other.execution == "eager onnxruntime graphs"
    assert planned.declined[other.id] == (
        "CUDA graphs capture calls of runtime eager or compile; got graphs=yes, runtime=onnxruntime"
    )


def test_a_cell_without_graphs_keeps_the_id_that_it_had_before_there_were_graphs(known):
    (cell,) = plan(Sweep(mechanism=("msa",), reference="none"), known, threads=2).cells
    assert "graphs" not in cell.as_dict()
    assert cell.id == "dfe2ddba6614"
    assert Cell.from_dict(cell.as_dict()) == cell
    graph = replace(cell, graphs=True)
    assert Cell.from_dict(graph.as_dict()) == graph
    assert graph.id != cell.id
    assert graph.group == cell.group


def test_a_run_asks_the_device_what_it_refuses(monkeypatch):
    from attnbench.execution.runner import make_plan
    from attnbench.machine.devices.cpu import Cpu

    monkeypatch.setattr(Cpu, "refuses", lambda self, precision: "no units for it" if precision == "bf16" else "")
    planned, _ = make_plan(Sweep(mechanism=("msa",), precision=("fp32", "bf16")))
    assert [planned.declined.get(c.id, "") for c in planned.cells] == ["", "no units for it"]


def test_arms_are_isolated_by_name_by_variant_or_all(known):
    def names(*words):
        made = plan(Sweep(mechanism=("msa", "hilo", "hilo[alpha=0.5]"), isolate=words), known)
        return [c.variant for c in made.cells if c.id in made.isolated]

    assert names("hilo") == ["hilo", "hilo[alpha=0.5]"]
    assert names("hilo[alpha=0.5]", "msa") == ["msa", "hilo[alpha=0.5]"]
    assert names("all") == ["msa", "hilo", "hilo[alpha=0.5]"]
    assert names("plugins") == names() == []
    with pytest.raises(AttnbenchError, match=r"isolate must name arms of the sweep.*got 'sra'; the arms: msa, hilo"):
        names("sra")


def test_an_arm_whose_setting_names_a_plugins_layer_runs_its_code():
    known = registry.load(entry_points=False)
    known.origins["van"] = "plugin van.py"
    made = plan(Sweep(backbone=("litv2_s", "litv2_s[attention=van]"), reference="none", isolate=("plugins",)), known)
    assert [c.variant for c in made.cells if c.id in made.isolated] == ["litv2_s[attention=van]"]


def test_an_empty_precision_is_that_of_each_device(known):
    sweep = Sweep(mechanism=("msa",), device=("cpu", "cuda"))
    made = plan(sweep, known, precisions={"cuda": "tf32"})
    assert [(c.device, c.precision) for c in made.cells] == [("cpu", "fp32"), ("cuda", "tf32")]
    both = Sweep(mechanism=("msa",), device=("cuda",), precision=("bf16", "fp32"))
    assert [c.precision for c in plan(both, known, precisions={"cuda": "tf32"}).cells] == ["bf16", "fp32"]
