"""The spectrum of HiLo's branches: known waves, the split into branches, files, refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from attnbench.commands.spectrum import command
from attnbench.errors import AttnbenchError
from attnbench.report import spectrum_figure as figure
from attnbench.report.evidence import Evidence
from attnbench.results.store import Run
from attnbench.studies import images, spectrum
from mechanisms.backbones.lit import Shape
from mechanisms.backbones.litv2 import litv2

SETTINGS = {
    "num_classes": 3, "attention": "hilo", "window_size": 2, "alpha": 0.5, "pooled": False, "deform": "torch",
    "drop_path_rate": 0.0,
}  # fmt: skip


def tiny(**settings):
    torch.manual_seed(3)
    return litv2(Shape(32, (1, 1, 2, 1), 0.0), (64, 64), **{**SETTINGS, **settings}).eval()


@pytest.mark.parametrize(("H", "W"), [(16, 16), (12, 20), (7, 9)])
@pytest.mark.parametrize("cycles", [0, 1, 3])
def test_a_wave_has_its_energy_at_its_frequency(H, W, cycles):
    wave = np.cos(2 * np.pi * cycles * np.arange(W) / W)[None, :, None] * np.ones((H, 1, 2))
    found = spectrum.average(map(spectrum.transform, (wave, 2 * wave)))
    frequency, index = spectrum.rings(H, W)
    parts = spectrum.shares(found.energy, index)
    at = int(np.argmin(np.abs(frequency - cycles / W)))
    assert int(np.argmax(spectrum.radial(found.amplitude, index))) == at
    np.testing.assert_allclose(parts, np.arange(len(parts)) == at, atol=1e-12)
    np.testing.assert_allclose(found.energy.sum(), 2.5 * (wave[..., 0] ** 2).sum())  # Parseval; (1 + 4) / 2


@pytest.mark.parametrize(("H", "W"), [(14, 14), (5, 7), (4, 11)])
def test_rings_are_centred_and_shares_sum_to_one(H, W):
    frequency, index = spectrum.rings(H, W)
    assert np.argwhere(index == 0).tolist() == [[H // 2, W // 2]]
    assert frequency[0] == 0
    assert (np.diff(frequency) > 0).all()
    assert frequency[-1] <= 0.5**0.5 + 0.5 / max(H, W)
    energy = np.random.default_rng(0).random((H, W))
    assert spectrum.shares(energy, index).sum() == pytest.approx(1)
    assert spectrum.shares(np.ones((H, W)), index) == pytest.approx(np.bincount(index.ravel()) / (H * W))


@pytest.mark.parametrize("settings", [{}, {"pooled": True}, {"window_size": 3}], ids=str)
def test_the_branches_are_what_the_layer_itself_computes(settings):
    from mechanisms.grid import pad_to

    model = tiny(**settings)
    layer = spectrum.hilo_layers(model)[-1]
    given = []
    layer.register_forward_pre_hook(lambda _module, args: given.append(args[0]))
    high, low = zip(*spectrum.branches(model, layer, images.synthetic_images(64, 64)), strict=True)
    assert len(high) == len(low) == len(images.SYNTHETIC)
    with torch.inference_mode():
        x = pad_to(given[2], layer.window_size)
        truth = [branch(x)[0, :4, :4].double().numpy() for branch in (layer._high, layer._low)]
    np.testing.assert_allclose(high[2], truth[0], atol=1e-6)
    np.testing.assert_allclose(low[2], truth[1], atol=1e-6)
    assert not layer._forward_hooks


def test_even_attention_leaves_lo_fi_one_frequency_and_hi_fi_the_means_of_windows():
    model = tiny()
    layer = spectrum.hilo_layers(model)[0]
    with torch.no_grad():
        layer.l_q.weight.zero_()
        layer.l_q.bias.zero_()
        layer.h_qkv.weight[: layer.h_proj.in_features].zero_()
        layer.h_qkv.bias[: layer.h_proj.in_features].zero_()
    high, low = (
        spectrum.average(map(spectrum.transform, maps))
        for maps in zip(*spectrum.branches(model, layer, images.synthetic_images(96, 96)), strict=True)
    )
    shares = [spectrum.shares(y.energy, spectrum.rings(6, 6)[1]) for y in (high, low)]
    assert shares[1][0] == pytest.approx(1, abs=1e-9)
    assert shares[0][0] < 0.999
    fastest = np.concatenate([high.energy[0], high.energy[:, 0]])  # half a cycle per token along an axis
    assert fastest.sum() < 1e-9 * high.energy.sum() < high.energy[1, 1]


def test_hi_fi_keeps_more_of_what_is_fine_than_lo_fi():
    data = spectrum.measure("litv2_s", resolution=(112, 112))
    high, low = (spectrum.above_half(data, branch) for branch in spectrum.BRANCHES)
    assert high > 10 * low > 0
    torch.manual_seed(9)
    state = torch.get_rng_state()
    assert spectrum.measure("litv2_s", resolution=(112, 112)) == data
    assert torch.equal(torch.get_rng_state(), state)
    for line in data["share_above"].values():
        assert (np.diff([1, *line]) <= 0).all()
        assert line[-1] == pytest.approx(0, abs=1e-8)


def test_the_caption_distinguishes_random_weights_from_a_checkpoint(tmp_path):
    state = tmp_path / "w.pth"
    torch.manual_seed(5)
    from attnbench import build

    torch.save({"model": build("litv2_s", resolution=(64, 64)).state_dict()}, state)
    random = spectrum.measure("litv2_s", resolution=(64, 80))
    loaded = spectrum.measure("litv2_s", resolution=(64, 80), weights=state)
    assert "The weights are random (seed 0): this shows the bias of the architecture" in random["caption"]
    assert "random" not in loaded["caption"]
    assert "w.pth" in loaded["caption"]
    assert loaded["amplitude"] != random["amplitude"]
    assert loaded["amplitude"] == spectrum.measure("litv2_s", resolution=(64, 80), seed=5)["amplitude"]
    assert loaded["grid"] == [4, 5]
    assert len(loaded["weights"]["sha256"]) == 64


def test_the_command_writes_what_a_report_reads_and_the_same_twice(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 90, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    Image.new("L", (33, 20), 90).save(tmp_path / "b.jpg")
    images = [word for name in ("a.png", "b.jpg") for word in ("--image", str(tmp_path / name))]
    words = ["--res", "64", "--layer", "1", *images, "--out"]
    for out in ("one", "two"):
        done = CliRunner().invoke(command, [*words, str(tmp_path / out)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    names = {"spectrum.json", "fig5-spectrum.png", "fig5-spectrum.svg", "fig5-spectrum.pdf"}
    assert {path.name for path in (tmp_path / "one").iterdir()} == names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    run = Run(tmp_path / "one", {}, [])
    data = json.loads((tmp_path / "one" / "spectrum.json").read_text())
    assert set(data["amplitude"]) == set(data["maps"]) == set(data["share_above"]) == {"Hi-Fi", "Lo-Fi"}
    assert data["images"] == ["a.png", "b.jpg"]
    assert data["layer"] == 1
    assert data["grid"] == [4, 4]
    (chart,) = figure.charts(Evidence((run,), (), ()))
    assert chart.caption == data["caption"]
    assert "2 images" in chart.caption
    assert "synthetic" not in chart.caption


def test_an_image_file_is_the_middle_of_itself_at_the_wanted_shape(tmp_path):
    pixels = np.zeros((20, 60, 3), dtype=np.uint8)
    pixels[:, 20:40] = (255, 51, 0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (image,) = images.load_images([tmp_path / "a.png"], 8, 8)
    np.testing.assert_allclose(image, np.broadcast_to([1, 0.2, 0], (8, 8, 3)), atol=1e-9)
    Image.new("RGB", (1, 300), (51, 0, 0)).save(tmp_path / "thin.png")
    (thin,) = images.load_images([tmp_path / "thin.png"], 8, 12)
    np.testing.assert_allclose(thin[..., 0], 0.2, atol=1e-9)
    assert thin.shape == (8, 12, 3)


def test_synthetic_images_are_images_and_differ():
    made = list(images.synthetic_images(40, 56))
    assert all(image.shape == (40, 56, 3) and image.min() >= 0 and image.max() <= 1 for image in made)
    assert len({image.tobytes() for image in made}) == len(images.SYNTHETIC)
    slow, fast = made[1], made[3]
    assert np.abs(np.diff(fast, axis=1)).mean() > 2 * np.abs(np.diff(slow, axis=1)).mean()


REFUSED = {
    "no HiLo": (["--backbone", "litv1_s"], "needs HiLo in the third stage; got litv1_s"),
    "other attention": (["--backbone", "litv2_s[attention=msa]"], r"got litv2_s[attention=msa], which has none"),
    "alpha 0": (["--backbone", "litv2_s[alpha=0]"], "got 12 Hi-Fi and 0 Lo-Fi heads in litv2_s[alpha=0.0]"),
    "alpha 1": (["--backbone", "litv2_s[alpha=1]"], "got 0 Hi-Fi and 12 Lo-Fi heads"),
    "window 1": (["--backbone", "litv2_s[window_size=1]"], "got 0 Hi-Fi and 12 Lo-Fi heads"),
    "a layer": (["--backbone", "hilo"], "inside a backbone; got hilo, which is a layer"),
    "an unknown name": (["--backbone", "litv2_x"], "nearest: litv2_s"),
    "too small": (["--res", "48"], "resolution of at least 64x64, 4x4 tokens in the third stage; got 48x48"),
    "two resolutions": (["--res", "64,96"], "one resolution; got '64,96'"),
    "layer 0": (["--layer", "0"], "at least 1; got 0"),
    "layer 7": (["--layer", "7"], "1 to 6; got 7"),
    "no such image": (["--image", "nowhere.png"], "can be read; got 'nowhere.png'"),
    "no image": (["--image", "text.png"], "can be read; got 'text.png'"),
    "half an image": (["--image", "half.png"], "can be read; got 'half.png'"),
    "sixteen bits": (["--image", "deep.png"], "8 bits per channel; got 'deep.png'"),
    "no such weights": (["--weights", "nowhere.pth"], "got 'nowhere.pth', which is not there"),
    "out is a file": (["--out", "text.png"], "text.png cannot be written"),
}


@pytest.mark.parametrize("case", REFUSED, ids=list(REFUSED))
def test_refusals_name_the_rule_and_the_values(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text.png").write_text("no image")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save("whole.png")
    Path("half.png").write_bytes(Path("whole.png").read_bytes()[:6000])
    Image.fromarray(np.full((8, 8), 40000, dtype=np.uint16)).save("deep.png")
    words, sentence = REFUSED[case]
    with pytest.raises(AttnbenchError) as refused:
        CliRunner().invoke(command, ["--res", "64", "--out", "out", *words], catch_exceptions=False)
    assert sentence in str(refused.value)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("value", "reason"),
    [(0.0, "Hi-Fi of layer 6 of litv2_s .*gives zeros"), (float("nan"), "weights must be finite numbers")],
)
def test_an_output_without_a_spectrum_is_refused(value, reason, tmp_path):
    from attnbench import build

    model = build("litv2_s", resolution=(64, 64))
    for part in (model.layers[2].blocks[5].attn.h_proj.weight, model.layers[2].blocks[5].attn.h_proj.bias):
        torch.nn.init.constant_(part, value)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    with pytest.raises(AttnbenchError, match=reason):
        spectrum.measure("litv2_s", resolution=(64, 64), weights=tmp_path / "w.pth")


def test_importing_it_imports_no_torch():
    code = "import sys, attnbench.studies.spectrum, attnbench.commands.spectrum; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_file_holds_numbers_that_any_reader_knows(tmp_path):
    data = spectrum.measure("litv2_s[pooled=true]", resolution=(64, 64))
    spectrum.write(data, tmp_path)
    text = (tmp_path / "spectrum.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == data
