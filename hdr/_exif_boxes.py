"""EXIF data in AVIF and JPEG XL files, which the encoders that can state HDR colours do not write."""

from __future__ import annotations

import struct

from hdr._errors import RefusedError

_WORD = b"Exif\0\0"
_JXL_CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"


def with_exif_item(avif: bytes, exif: bytes) -> bytes:
    """An AVIF with EXIF data as an item that describes the image (ISO/IEC 23008-12, A.2.1).

    Parameters
    ----------
    avif
        A file as libavif writes it: ``ftyp``, ``meta`` and ``mdat``, places of at most 32 bits.
    exif
        Beginning with ``Exif`` or with the header of a TIFF.

    Raises
    ------
    ValueError
        If the file is laid out in another way.
    """
    # Where the header of the TIFF is, counted from here: after the word, as phones write it, and all readers know.
    exif = struct.pack(">I", len(_WORD)) + _WORD + exif.removeprefix(_WORD)
    top = _boxes(avif, 0, len(avif))
    if b"meta" not in top:
        raise RefusedError("an AVIF without a meta box")
    start, end = top[b"meta"]
    inner = _boxes(avif, start + 12, end)  # a full box: version and flags come first
    if not {b"iloc", b"iinf", b"pitm"} <= inner.keys() or b"iref" in inner:
        raise RefusedError(f"an AVIF with {', '.join(name.decode('latin1') for name in inner)}")
    parts = {name: avif[slice(*place)] for name, place in inner.items()}
    version, sizes, places = parts[b"iloc"][8], parts[b"iloc"][12:14], parts[b"iloc"][14:]
    if version != 0 or sizes != b"\x44\x00" or parts[b"iinf"][8] != 0 or parts[b"pitm"][8] != 0:
        raise RefusedError("an AVIF whose items are numbered or placed in another way")
    (primary,), (count,) = struct.unpack(">H", parts[b"pitm"][12:14]), struct.unpack_from(">H", parts[b"iinf"], 12)
    item = max(number for number, _ in _items(places)) + 1
    entry = struct.pack(">I4sB3xHH4sx", 21, b"infe", 2, item, 0, b"Exif")
    parts[b"iinf"] = _full(b"iinf", struct.pack(">H", count + 1) + parts[b"iinf"][14:] + entry)
    # "cdsc": the new item describes the primary one.
    reference = _full(b"iref", struct.pack(">I4sHHH", 14, b"cdsc", item, 1, primary))
    longer = 14 + len(entry) + len(reference)  # 14 for one more item in "iloc"
    last = len(avif) + longer + 8  # after the head of the box that is put at the end
    parts[b"iloc"] = _full(b"iloc", sizes + _placed(places, longer, (item, last, len(exif))))
    head = avif[start + 8 : start + 12]
    meta = head + b"".join(part + (reference if name == b"iinf" else b"") for name, part in parts.items())
    return avif[:start] + _box(b"meta", meta) + avif[end:] + _box(b"mdat", exif)


def with_exif_box(jxl: bytes, exif: bytes) -> bytes:
    """A JPEG XL file with EXIF data as a box of its container (ISO/IEC 18181-2, 9.4).

    Parameters
    ----------
    jxl
        A container, not a bare codestream.
    exif
        Beginning with ``Exif`` or with the header of a TIFF.

    Raises
    ------
    ValueError
        If it is no container.
    """
    if not jxl.startswith(_JXL_CONTAINER):
        raise RefusedError("a JPEG XL file without a container")
    # Four bytes say how far from them the TIFF's header is. Readers look through all boxes.
    return jxl + _box(b"Exif", b"\0\0\0\0" + exif.removeprefix(_WORD))


def _boxes(data: bytes, start: int, end: int) -> dict[bytes, tuple[int, int]]:
    """Where the boxes between two places begin and end, by name."""
    found: dict[bytes, tuple[int, int]] = {}
    while start + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, start)
        if size < 8 or start + size > end or name in found:  # 0 and 1 stand for sizes that are said elsewhere
            raise RefusedError(f"a box {name!r} of {size} bytes")
        found[name] = (start, start + size)
        start += size
    return found


def _items(places: bytes) -> list[tuple[int, list[tuple[int, int]]]]:
    """Number, and offset and length of its pieces, of every item in the rest of an ``iloc`` box."""
    (count,), at = struct.unpack_from(">H", places), 2
    found = []
    for _ in range(count):
        number, _, pieces = struct.unpack_from(">HHH", places, at)
        values = struct.unpack_from(f">{2 * pieces}I", places, at + 6)
        found.append((number, list(zip(values[::2], values[1::2], strict=True))))
        at += 6 + 8 * pieces
    return found


def _placed(places: bytes, farther: int, new: tuple[int, int, int]) -> bytes:
    """The rest of an ``iloc`` box whose items lie farther back, with a new one: number, offset, length."""
    items = [(number, [(offset + farther, size) for offset, size in pieces]) for number, pieces in _items(places)]
    items.append((new[0], [new[1:]]))
    written = [struct.pack(">H", len(items))]
    for number, pieces in items:
        written.append(struct.pack(">HHH", number, 0, len(pieces)))
        written += [struct.pack(">II", *piece) for piece in pieces]
    return b"".join(written)


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def _full(name: bytes, content: bytes) -> bytes:
    return _box(name, b"\0\0\0\0" + content)
