"""The rule of mmdetection's hooks, module by module, by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attnbench.measure import mmdet

IMAGE = torch.empty(3, 4, 5, 7)  # the first image is counted: 4 channels, 35 places


class Own(nn.Conv2d):
    """A subclass, which the hooks do not see."""


class Pools(nn.Module):
    def forward(self, x):
        return F.avg_pool2d(x, 2)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(7, 7)

    def forward(self, x):
        x = self.mix(x.transpose(2, 3).transpose(2, 3))
        return x @ x.transpose(-2, -1) @ x + F.scaled_dot_product_attention(x, x, x)


@pytest.mark.parametrize(
    ("module", "wanted"),
    [
        (nn.Conv2d(4, 6, 3, padding=1), 35 * (9 * 4 * 6 + 6)),
        (nn.Conv2d(4, 6, 3, padding=1, bias=False), 35 * 9 * 4 * 6),
        (nn.Conv2d(4, 8, 1, groups=2, stride=2), 12 * (2 * 8 + 8)),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), 35 * 4 * 4 * 6 + 140 * 6),
        (nn.Linear(7, 9), 20 * 63),
        (nn.ReLU(), 140),
        (nn.BatchNorm2d(4), 280),
        (nn.GroupNorm(2, 4, affine=False), 140),
        (nn.LayerNorm(7), 280),
        (nn.MaxPool2d(2), 140),
        (nn.AvgPool2d(2), 140),
        (Pools(), 140),
        (nn.Upsample(scale_factor=2), 560),
        (nn.GELU(), 0),
        (nn.SyncBatchNorm(4), 0),
        (Own(4, 6, 3), 0),
        (nn.Sequential(nn.ReLU(), nn.ReLU()), 280),
        (Attention(), 20 * 49),
    ],
    ids=lambda m: type(m).__name__ if isinstance(m, nn.Module) else "",
)
def test_a_module_costs_what_its_hook_says(module, wanted):
    assert mmdet.count(module, IMAGE) == wanted


def test_products_of_activations_are_those_of_attention_however_it_is_called():
    assert mmdet.products(Attention(), IMAGE) == 4 * (2 + 2) * 5 * 5 * 7
    assert mmdet.products(nn.Linear(7, 9), IMAGE) == 0


def test_only_a_task_model_has_a_total_by_this_rule():
    module = nn.ReLU()
    assert mmdet.total(module, IMAGE) is None
    module.counted_as = "mmdetection"
    assert mmdet.total(module, IMAGE) == 140


def test_the_module_is_left_as_it_was():
    module = nn.Sequential(nn.Conv2d(4, 4, 1)).train()
    mmdet.count(module, IMAGE)
    assert module.training
    assert not module[0]._forward_hooks
    assert module[0].weight.device.type == "cpu"
