"""The names of backbones and of their precisions. Imports nothing, so that the command line can offer them."""

from __future__ import annotations

BACKBONES = ("vgg19", "vgg19_bn", "resnet50", "resnet101", "resnet18", "squeezenet1_1")  # of torchvision
PREFIXES = ("timm:", "open_clip:")  # of the networks of other libraries: timm:NAME
IMPORTED = "imported:"  # before the name of what computed features outside of c3
PACKAGES = {
    "timm:": ("timm",),
    "open_clip:": ("open_clip_torch",),
}  # that decide the values beside those of c3, by prefix
PRECISIONS = ("fp32", "bf16", "fp16")  # number types of the arithmetic
AUTO = "auto"  # the precision that the store has, else the fastest one of the device (precision.py)
