"""What a picture file says by number of its values: PQ or HLG, which are no camera's curve, and its primaries."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from hdr.radiometry import P3, REC709, REC2020

# Transfer characteristics and colour primaries of ITU-T H.273; all other primaries are taken as Rec. 709.
_TRANSFERS = {16: "PQ", 18: "HLG"}
_PRIMARIES = {9: REC2020, 12: P3}
_NOT_SAID = (0, 2)  # the second in so many words
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_Box = tuple[bytes, int, int]


def hdr_transfer(data: bytes) -> str:
    """PQ or HLG, if a PNG, AVIF or HEIC file says so; empty if it says something else or nothing.

    Parameters
    ----------
    data
        All of the file.

    Examples
    --------
    >>> hdr_transfer(b"no picture")
    ''
    """
    _, transfer = _coded(data)
    return _TRANSFERS.get(transfer, "")


def coded_primaries(data: bytes) -> tuple[float, ...] | None:
    """Chromaticities of red, green, blue and white, if an AVIF or HEIC file says others than those of Rec. 709.

    A PNG is believed before whatever else it says, also where it says Rec. 709.

    Parameters
    ----------
    data
        All of the file.
    """
    primaries, _ = _coded(data)
    if data.startswith(_PNG_SIGNATURE) and primaries not in _NOT_SAID:
        return _PRIMARIES.get(primaries, REC709)
    return _PRIMARIES.get(primaries)


def _coded(data: bytes) -> tuple[int, int]:
    """Numbers of the primaries and the transfer; zeros where a file says none."""
    try:
        return _png_numbers(data) if data.startswith(_PNG_SIGNATURE) else _heif_numbers(data)
    except (struct.error, IndexError):  # damage is told where the picture is decoded
        return 0, 0


def _png_numbers(data: bytes) -> tuple[int, int]:
    """Of the chunk cICP: primaries, transfer, matrix, range (PNG, third edition, 11.3.2.6)."""
    start = len(_PNG_SIGNATURE)
    while start + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, start)
        if name == b"cICP":
            return data[start + 8], data[start + 9]
        if name == b"IDAT":  # colours are told before the pixels
            break
        start += 12 + size
    return 0, 0


def _heif_numbers(data: bytes) -> tuple[int, int]:
    """Of the primary image: other images, as that of a gain map, have colours of their own (ISO/IEC 23008-12, 6)."""
    if data[4:8] != b"ftyp":
        return 0, 0
    meta = _of_name(_boxes(data, 0, len(data)), b"meta")
    # The head of a full box, version and flags, takes four bytes more.
    inner = [box for _, start, end in meta for box in _boxes(data, start + 4, end)]
    properties = [box for _, start, end in _of_name(inner, b"iprp") for box in _boxes(data, start, end)]
    colours = [
        (index, data[start : start + 4], struct.unpack_from(">HH", data, start + 4))
        for _, begin, finish in _of_name(properties, b"ipco")
        for index, (name, start, _) in enumerate(_boxes(data, begin, finish), start=1)
        if name == b"colr"
    ]
    primary = _primary_item(data, inner)
    own = {index for number, index in _associations(data, properties) if number == primary}
    # Where the primary image is put together of tiles, these alone may tell.
    told = [colour for colour in colours if colour[0] in own] or colours
    return next((numbers for _, kind, numbers in told if kind == b"nclx"), (0, 0))


def _primary_item(data: bytes, inner: list[_Box]) -> int:
    for _, start, _ in _of_name(inner, b"pitm"):
        return int(struct.unpack_from(">I" if data[start] else ">H", data, start + 4)[0])
    return 0


def _associations(data: bytes, properties: list[_Box]) -> Iterator[tuple[int, int]]:
    """Number of an item, and place, counted from 1, of a property of it."""
    for _, start, _ in _of_name(properties, b"ipma"):
        item = ">IB" if data[start] else ">HB"
        index, mask = (">H", 0x7FFF) if data[start + 3] & 1 else (">B", 0x7F)  # the first bit: whether it is essential
        (count,), at = struct.unpack_from(">I", data, start + 4), start + 8
        for _ in range(count):
            number, several = struct.unpack_from(item, data, at)
            at += struct.calcsize(item)
            for _ in range(several):
                yield number, struct.unpack_from(index, data, at)[0] & mask
                at += struct.calcsize(index)


def _of_name(boxes: Iterator[_Box] | list[_Box], name: bytes) -> list[_Box]:
    return [box for box in boxes if box[0] == name]


def _boxes(data: bytes, start: int, end: int) -> Iterator[_Box]:
    """Name, and begin and end of the content, of the boxes between two places."""
    while start + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1:
            (size,), head = struct.unpack_from(">Q", data, start + 8), 16
        if size == 0:  # to the end
            size = end - start
        if size < head or start + size > end:
            return
        yield name, start + head, start + size
        start += size
