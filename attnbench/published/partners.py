"""Published name -> the variant of ours that is its partner: the one place where the two meet.

A name maps to (scope, variants in order of preference).
"""

from __future__ import annotations

from collections.abc import Mapping

Partner = tuple[str, tuple[str, ...]]
NO_PARTNER: Partner = ("", ())


def _layers(**names: str) -> dict[str, Partner]:
    return {name.replace("_", " "): ("layer", (variant,)) for name, variant in names.items()}


LAYERS: Mapping[str, Partner] = _layers(
    MSA="msa", Cross_Window="cswin", DAT="dat", Performer="performer", Linformer="linformer", SRA="sra",
    Local_Window="window", Shifted_Window="shifted_window", Focal="focal", XCA="xca", QuadTree="quadtree",
    VAN="van", HorNet="hornet", HiLo="hilo",
)  # fmt: skip


def _models(**names: str | tuple[str, ...]) -> dict[str, Partner]:
    return {
        name.replace("_", "-"): ("backbone", (variants,) if isinstance(variants, str) else variants)
        for name, variants in names.items()
    }


BACKBONES: Mapping[str, Partner] = {
    **_models(
        LITv1_S="litv1_s", LITv1_M="litv1_m", LITv1_B="litv1_b",
        LITv2_S="litv2_s", LITv2_M="litv2_m", LITv2_B="litv2_b",
        LightViT_T="lightvit_t", LightViT_S="lightvit_s", LightViT_B="lightvit_b",
        ResNet_50="resnet50", ResNet_101="resnet101", ResNet_152="resnet152",
        ConvNext_Ti=("convnext_tiny",), ConvNext_S=("convnext_small",), ConvNext_B=("convnext_base",),
        PVT_S=("pvt_small", "pvt_s"), PVT_M=("pvt_medium", "pvt_m"), PVT_L=("pvt_large", "pvt_l"),
        Swin_Ti=("swin_tiny", "swin_tiny_patch4_window7_224"), Swin_T=("swin_tiny", "swin_tiny_patch4_window7_224"),
        Swin_S=("swin_small", "swin_small_patch4_window7_224"), Swin_B=("swin_base", "swin_base_patch4_window7_224"),
        CvT_13=("cvt_13", "cvt13"), Focal_Tiny=("focal_tiny",),
        Twins_PCPVT_S=("twins_pcpvt_small",), Twins_SVT_S=("twins_svt_small",),
        Twins_SVT_B=("twins_svt_base",), Twins_SVT_L=("twins_svt_large",),
        TNT_S=("tnt_small", "tnt_s_legacy_patch16_224", "tnt_s_patch16_224"), CoAtNet_0=("coatnet_0", "coatnet_0_224"),
        CaiT_XS24=("cait_xs24", "cait_xs24_384"), PVTv2_B0=("pvt_v2_b0",), PVTv2_B1=("pvt_v2_b1",),
        PVTv2_B2=("pvt_v2_b2",), XCiT_S12=("xcit_small_12", "xcit_small_12_p16_224"),
        RegNetY_800M=("regnety_008",), SimViT_Micro=("simvit_micro",), MobileViT_XS=("mobilevit_xs",),
        MobileViT_S=("mobilevit_s",), ResT_Small=("rest_small",), DeiT_S=("deit_small", "deit_small_patch16_224"),
        ResNeXt101_64x4d=("resnext101_64x4d",),
    ),
    "RegNetY-1.6G": ("backbone", ("regnety_016",)),
    "LVT": ("backbone", ("lvt",)),
}  # fmt: skip

AT_384: Mapping[str, Partner] = {
    "DeiT-B": ("backbone", ("deit_base_384", "deit_base_patch16_384")),
    "Swin-B": ("backbone", ("swin_base_384", "swin_base_patch4_window12_384")),
    "LITv2-B": ("backbone", ("litv2_b",)),
}

# attention_swap.csv: what stands in stage 3 of LITv2-S
SWAPS: Mapping[str, Partner] = {
    "MSA": ("backbone", ("litv2_s[attention=msa]",)),
    "SRA": ("backbone", ("litv2_s[attention=sra]",)),
    "W-MSA": ("backbone", ("litv2_s[attention=window]",)),
    "T-MSA": ("backbone", ("litv2_s[attention=tmsa]",)),
    "HiLo": ("backbone", ("litv2_s",)),
}

# architecture_ablation.csv: cumulative steps from LITv1-S to LITv2-S
STEPS: Mapping[str, Partner] = {
    "LITv1-S": ("backbone", ("litv1_s",)),
    "+ ConvFFN": ("backbone", ("litv1_s[ffn=conv]",)),
    "+ Remove RPE": ("backbone", ("litv2_s[attention=msa]",)),
    "+ HiLo": ("backbone", ("litv2_s",)),
}

# pooled_queries.csv
QUERIES: Mapping[str, Partner] = {
    "LITv2-S": ("backbone", ("litv2_s",)),
    "LITv2-S w/ pooled queries": ("backbone", ("litv2_s[pooled=true]",)),
}

TABLES: Mapping[str, Mapping[str, Partner]] = {
    "layers": LAYERS,
    "classifiers": BACKBONES,
    "swaps": SWAPS,
    "steps": STEPS,
    "queries": QUERIES,
}


def partner(table: str, name: str, side: int = 224) -> Partner:
    """The partner of a published name in one of `TABLES`, at `side` pixels; `NO_PARTNER` where none is known."""
    known = AT_384 if table == "classifiers" and side == 384 else TABLES[table]
    return known.get(name, NO_PARTNER)


def around_task(task: str, backbone: Partner, *settings: str) -> Partner:
    """A task model around a backbone, which has these settings: `retinanet[backbone=litv2_s[window_size=4]]`."""
    inside = f"[{','.join(settings)}]" if settings else ""
    return "task", tuple(f"{task}[backbone={variant}{inside}]" for variant in backbone[1])
