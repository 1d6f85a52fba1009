"""Networks of other libraries, pruned and held against the oracle, where the libraries are there.

`make coverage LIBRARIES="timm ultralytics"` runs those and writes data/libraries.csv and .md. They
are no dependencies: `pip install` what you want to see. See `examine`.
"""

import argparse
import importlib
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from coverage import check_file, draw, leaves
from torch import Tensor, nn
from tqdm import tqdm

from prunelab import make_plan, prune, silence, trace

ULTRALYTICS = """yolov8n yolov8n-seg yolov8n-pose yolov8n-cls yolo11n yolo11n-seg yolo11n-pose
yolo11n-cls yolov5n yolov9t yolov9c-seg yolov10n yolov8n-obb""".split()
TIMM = """resnet18 resnet26d resnet50_gn resnetv2_50x1_bit resnext26ts seresnet33ts
seresnext26t_32x4d skresnet18 resnest14d ecaresnet26t res2net50_14w_8s res2next50 gernet_s
repvgg_a0 mobileone_s0 regnetx_002 regnety_002 regnetz_b16 regnetv_040 nf_resnet50 nf_regnet_b0
eca_nfnet_l0 densenet121 densenetblur121d vovnet39a ese_vovnet19b_dw dla34 dla46x_c
hrnet_w18_small selecsls42 inception_v3 inception_v4 inception_resnet_v2 xception41 mnasnet_100
mobilenetv2_100 mobilenetv3_small_100 mobilenetv4_conv_small tf_efficientnet_b0 efficientnet_b0
tf_efficientnetv2_b0 mixnet_s tf_mixnet_s fbnetc_100 spnasnet_100 tinynet_e hardcorenas_a
ghostnet_100 lcnet_050 cspresnet50 cspdarknet53 rexnet_100 convnext_atto convnextv2_atto
poolformer_s12 fastvit_t8 starnet_s1 hgnetv2_b0 inception_next_atto resnetblur50""".split()
PYTORCHCV = """alexnet vgg11 bn_vgg11b bninception resnet10 preresnet10 resnext14_16x4d seresnet10
sepreresnet10 seresnext50_32x4d resnesta18 ibn_resnet50 ibn_densenet121 airnet50_1x64d_r2
airnext50_32x4d_r2 bam_resnet18 cbam_resnet18 scnet50 regnetx002 regnety002 diracnet18v2
densenet121 condensenet74_c4_g4 sparsenet121 peleenet drnc26 dpn68 darknet_tiny darknet19 dla34
hrnet_w18_small_v1 vovnet27s selecsls42b hardnet39ds squeezenet_v1_0 squeezeresnet_v1_0
sqnxt23_w1 shufflenet_g1_wd4 shufflenet_g3_wd4 shufflenetv2_wd2 shufflenetv2b_wd2 menet108_8x1_g3
mobilenet_wd4 fdmobilenet_wd4 mobilenetv2_wd4 mobilenetv3_small_w7d20 igcv3_wd4 ghostnet
mnasnet_b1 proxylessnas_cpu fbnet_cb inceptionv3 spnasnet efficientnet_b0 mixnet_s resneta10
octresnet10_ad2 nin_cifar10 fractalnet_cifar10 xdensenet40_2_k24_bc_cifar10""".split()
SEGMENTERS = """Unet UnetPlusPlus MAnet Linknet FPN PSPNet PAN DeepLabV3 DeepLabV3Plus UPerNet
Segformer""".split()
ENCODERS = """efficientnet-b0 mobilenet_v2 densenet121 timm-regnetx_002 xception vgg11_bn dpn68
se_resnet50 inceptionv4 mobileone_s0 timm-skresnet18 mit_b0 tu-convnext_tiny""".split()
COLUMNS = ("convs", "groups", "prunable", "largest_difference", "stays", "failed")
Build = Callable[[], nn.Module]


def list_ultralytics() -> Iterator[tuple[str, Build, int]]:
    import ultralytics

    for name in ULTRALYTICS:
        yield name, lambda name=name: ultralytics.YOLO(f"{name}.yaml", verbose=False).model, 64


def list_timm() -> Iterator[tuple[str, Build, int]]:
    import timm

    for name in TIMM:
        yield name, lambda name=name: timm.create_model(name), 96


def list_pytorchcv() -> Iterator[tuple[str, Build, int]]:
    from pytorchcv.model_provider import get_model

    for name in PYTORCHCV:
        size = 32 if "cifar" in name else 299 if "inceptionv3" in name else 224
        yield name, lambda name=name: get_model(name), size


def list_segmentation_models_pytorch() -> Iterator[tuple[str, Build, int]]:
    import segmentation_models_pytorch as smp

    for name in SEGMENTERS:
        kind, size = getattr(smp, name), 256 if name == "PAN" else 64
        yield name, lambda kind=kind: kind("resnet18", encoder_weights=None), size
    for name in ENCODERS:
        yield f"Unet, {name}", lambda name=name: smp.Unet(name, encoder_weights=None), 64


def list_monai() -> Iterator[tuple[str, Build, int]]:
    from monai.networks import nets

    flat = {"spatial_dims": 2, "in_channels": 3, "out_channels": 2}
    steps = {"channels": (8, 16, 32), "strides": (2, 2)}
    pair = {"channels": (8, 16), "strides": (2, 2)}
    image = {"in_shape": (3, 64, 64), **pair}
    classes = {"spatial_dims": 2, "in_channels": 3, "num_classes": 2}
    kernels = {"kernel_size": [3] * 3, "strides": [1, 2, 2], "upsample_kernel_size": [2, 2]}
    found: dict[str, tuple[dict[str, Any], int]] = {
        "UNet": ({**flat, **steps, "num_res_units": 2}, 64),
        "BasicUNet": (flat, 64),
        "BasicUNetPlusPlus": (flat, 64),
        "AttentionUnet": ({**flat, **steps}, 64),
        "SegResNet": (flat, 64),
        "SegResNetVAE": ({**flat, "input_image_size": (64, 64)}, 64),
        "DynUNet": ({**flat, **kernels}, 64),
        "VNet": ({**flat, "in_channels": 1}, 64),
        "HighResNet": (flat, 64),
        "FlexibleUNet": ({**flat, "backbone": "efficientnet-b0"}, 64),
        "DenseNet121": (flat, 64),
        "EfficientNetBN": ({**classes, "model_name": "efficientnet-b0", "pretrained": False}, 64),
        "SEResNet50": (classes, 64),
        "RegUNet": ({**flat, "num_channel_initial": 8, "depth": 2}, 64),
        "AutoEncoder": ({**flat, **pair}, 64),
        "VarAutoEncoder": ({**image, "spatial_dims": 2, "out_channels": 3, "latent_size": 4}, 64),
        "Discriminator": (image, 64),
        "Classifier": ({**image, "classes": 3}, 64),
        "Regressor": ({**image, "out_shape": (1,)}, 64),
        "AHNet": ({**flat, "layers": (3, 4, 6, 3)}, 128),
        "Quicknat": ({"num_classes": 2, "num_channels": 3}, 64),
        "UNETR": ({**flat, "img_size": (64, 64)}, 64),
        "SwinUNETR": (flat, 64),
    }
    for name, (given, size) in found.items():
        yield name, lambda name=name, given=given: getattr(nets, name)(**given), size


LIBRARIES = {name.removeprefix("list_"): f for name, f in globals().items() if "list_" in name}


def calibrate(model: nn.Module, x: Tensor) -> None:
    """Batch norms get the statistics of maps that really come; the rest stays in evaluation."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.train().reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        model(torch.cat([x, x.flip(-1), x.roll(3, -1), x.mT]))
    for norm in norms:
        norm.eval()
        norm.momentum = 0.1


def examine(build: Build, size: int) -> dict[str, Any]:
    """One row of verdicts; AssertionError where a check fails.

    Every group that can be pruned is, at 40 %: removed equals silenced (1e-10 of the largest
    output, in float64); saved, loaded, the same outputs to the bit; all outputs of training mode
    have gradients.
    """
    torch.manual_seed(0)
    model = build().double().eval()
    draw(model)
    channels = next(m.in_channels for m in model.modules() if hasattr(m, "in_channels"))
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, channels, size, size, generator=generator, dtype=torch.double)
    calibrate(model, x)
    graph = trace(model, x)
    free = [group for group in graph.groups if group.prunable]
    row: dict[str, Any] = {
        "convs": len(graph.layers),
        "groups": len(graph.groups),
        "prunable": len(free),
        "largest_difference": 0.0,
        "stays": "; ".join(f"{g.leader}: {g.reason}" for g in graph.groups if not g.prunable),
    }
    if free:
        plan = make_plan(graph, {"*": 0.4})
        small = prune(model, plan)
        with torch.no_grad():
            pairs = zip(leaves(small(x)), leaves(silence(model, plan)(x)), strict=True)
            worst = max(
                float((ours - truth).abs().max() / truth.abs().max().clamp(min=1e-30))
                for ours, truth in pairs
            )
        assert worst <= 1e-10, worst
        row["largest_difference"] = worst
        check_file(model, small, plan, x)
    return row


def describe(table: pd.DataFrame) -> str:
    """The verdicts as a page."""
    lines = [
        "# Networks of other libraries",
        "",
        'Written by `make coverage LIBRARIES="…"`, with `libraries.csv`: see `examine` in',
        "`tests/graph/libraries.py`. Every group that can be pruned was, at 40 %, and held against",
        "the silenced network: Δ is the largest difference, over the largest output, in float64.",
        "",
    ]
    for library, rows in table.groupby(level="library"):
        passed = rows["failed"].isna()
        share = rows["prunable"] / rows["groups"]
        lines += [
            f"## {library}",
            "",
            f"{passed.sum()} of {len(rows)} are pruned right; in {(share >= 0.8).sum()} at least "
            "80 % of the groups can be pruned.",
            "",
            "| network | convs | groups pruned | Δ | what stays, and why, first |",
            "|---|---|---|---|---|",
        ]
        for (_, name), row in rows.iterrows():
            if isinstance(row["failed"], str):
                lines.append(f"| {name} | | | | {row['failed']} |")
                continue
            some = f"{row['prunable']:.0f} of {row['groups']:.0f}"
            stays = str(row["stays"]).split("; ")[0] if isinstance(row["stays"], str) else ""
            delta = f"{row['largest_difference']:.0e}"
            lines.append(f"| {name} | {row['convs']:.0f} | {some} | {delta} | {stays} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("libraries", nargs="+", choices=LIBRARIES)
    parser.add_argument("--only", nargs="*", default=[], help="names of networks")
    data = Path(__file__).parents[2] / "data"
    parser.add_argument("--out", type=Path, default=data / "libraries.csv")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    key = ["library", "model"]
    rows = pd.read_csv(given.out).set_index(key).T.to_dict() if given.out.exists() else {}
    for library in given.libraries:
        importlib.import_module(library)
        for name, build, size in tqdm([*LIBRARIES[library]()], unit="network"):
            if given.only and name not in given.only:
                continue
            start = time.perf_counter()
            try:
                row = examine(build, size)
            except Exception as error:
                words = (str(error) or "no words").splitlines()[0]
                row = {"failed": f"{type(error).__name__}: {words}"}
            seconds = time.perf_counter() - start
            said = row.get("failed") or f"{row['prunable']} of {row['groups']} groups"
            tqdm.write(f"{library} {name}: {said}, {seconds:.0f} s")
            rows[library, name] = dict.fromkeys(COLUMNS) | row
            table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(key).sort_index()
            table.to_csv(given.out)
            given.out.with_suffix(".md").write_text(describe(table))


if __name__ == "__main__":
    main()
