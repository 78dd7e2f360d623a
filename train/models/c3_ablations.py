"""The ablations of Table 3: rows a to d, each named by the parts of C3-MLZSL that it keeps."""

from __future__ import annotations

from .c3 import C3


class C3a(C3):
    """`c3-a`: channels shuffled into g groups, of the deepest level only; S is the maximum over the positions."""

    pyramid, encodes, attends = False, False, False


class C3b(C3):
    """`c3-b`: row a with the Forward Pyramid."""

    pyramid, encodes, attends = True, False, False


class C3c(C3):
    """`c3-c`: row b with the (ML)2P-Encoder."""

    pyramid, encodes, attends = True, True, False


class C3d(C3):
    """`c3-d`: row b with Group Attention."""

    pyramid, encodes, attends = True, False, True
