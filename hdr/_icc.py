"""The colour profile of linear Rec. 709, so that no program has to guess what floating-point numbers of a file are."""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hdr.radiometry import REC709

NAME = "Linear Rec. 709"
_D50 = np.array([0.9642, 1.0, 0.8249])  # the white of all profiles, ICC.1:2022
# Responses of the cones by which one white becomes another (Bradford), as that standard has them.
_CONES = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_HEADER_BYTES, _ENTRY_BYTES = 128, 12


@functools.cache
def linear_rec709_profile() -> bytes:
    """An ICC profile, version 4.3, of displays: three primaries and straight curves.

    Source: ICC.1:2022, "Image technology colour management: architecture, profile format and data structure".
    """
    columns, adaptation = colorants(REC709)
    straight = b"para" + bytes(4) + struct.pack(">HHi", 0, 0, 1 << 16)  # a gamma of 1
    xyz = {f"{colour}XYZ": b"XYZ " + bytes(4) + _fixed(column) for colour, column in zip("rgb", columns.T, strict=True)}
    tags = {
        "desc": _text(NAME),
        "cprt": _text("No copyright, use freely"),
        "wtpt": b"XYZ " + bytes(4) + _fixed(_D50),
        "chad": b"sf32" + bytes(4) + _fixed(adaptation),
        **xyz,
        **{f"{colour}TRC": straight for colour in "rgb"},
    }
    begin = _HEADER_BYTES + 4 + _ENTRY_BYTES * len(tags)
    directory, body, places = struct.pack(">I", len(tags)), b"", dict[bytes, int]()
    for tag, content in tags.items():
        if content not in places:  # the three curves are one
            places[content] = begin + len(body)
            body += content + bytes(-len(content) % 4)
        directory += tag.encode() + struct.pack(">II", places[content], len(content))
    return _header(begin + len(body)) + directory + body


def colorants(chromaticities: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """XYZ of red, green and blue as columns, in the white of profiles; and the matrix that brought them there.

    ``chromaticities`` are x and y of red, green, blue and their white.
    """
    xy = np.array(chromaticities, np.float64).reshape(4, 2)
    columns = np.stack([xy[:, 0] / xy[:, 1], np.ones(4), (1 - xy.sum(1)) / xy[:, 1]])
    primaries, white = columns[:, :3], columns[:, 3]
    native = primaries * np.linalg.solve(primaries, white)  # which add up to white
    adaptation = np.linalg.inv(_CONES) @ np.diag((_CONES @ _D50) / (_CONES @ white)) @ _CONES
    return adaptation @ native, adaptation


def _header(size: int) -> bytes:
    of_a_display = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x04300000, b"mntr", b"RGB ", b"XYZ ")
    # A date, because the standard asks for one: that of Rec. 709's first edition.
    made = struct.pack(">6H4s", 1990, 5, 24, 0, 0, 0, b"acsp")
    return (of_a_display + made).ljust(68, b"\0") + _fixed(_D50) + bytes(48)


def _fixed(numbers: NDArray[np.float64]) -> bytes:
    values = np.rint(numbers.ravel() * (1 << 16)).astype(int).tolist()
    return struct.pack(f">{len(values)}i", *values)


def _text(words: str) -> bytes:
    encoded = words.encode("utf-16-be")
    return b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, _ENTRY_BYTES, b"en", b"US", len(encoded), 28) + encoded
