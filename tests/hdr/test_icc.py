from __future__ import annotations

import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms

from hdr._icc import NAME, linear_rec709_profile
from tests.hdr.cameras import srgb


def profile() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(BytesIO(linear_rec709_profile()))


def test_the_primaries_are_those_of_srgb_as_another_program_has_them() -> None:
    theirs = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).profile
    for colour in ("red_colorant", "green_colorant", "blue_colorant", "media_white_point"):
        np.testing.assert_allclose(getattr(profile().profile, colour)[0], getattr(theirs, colour)[0], atol=2e-5)


def test_numbers_are_proportional_to_light() -> None:
    levels = np.arange(256, dtype=np.uint8)
    shown = ImageCms.profileToProfile(
        Image.fromarray(np.repeat(levels[None, :, None], 3, axis=2)), profile(), ImageCms.createProfile("sRGB")
    )
    back = srgb(np.asarray(shown)[0] / 255.0)  # light that a screen makes of it
    assert np.abs(back - levels[:, None] / 255).max() < 0.005  # half a level of sRGB near white


def test_it_is_what_the_standard_asks_for() -> None:
    data = linear_rec709_profile()
    size, signature = struct.unpack(">I", data[:4])[0], data[36:40]
    assert (size, signature, data[12:16], data[64:68]) == (len(data), b"acsp", b"mntr", bytes(4))
    assert data[8:10] == b"\x04\x30"  # version 4.3
    count = struct.unpack(">I", data[128:132])[0]
    entries = [struct.unpack(">4sII", data[132 + 12 * index : 144 + 12 * index]) for index in range(count)]
    assert {name.decode() for name, *_ in entries} == {
        *("desc", "cprt", "wtpt", "chad", "rXYZ", "gXYZ", "bXYZ", "rTRC", "gTRC", "bTRC")
    }
    for _, offset, length in entries:
        assert offset % 4 == 0
        assert 132 + 12 * count <= offset <= len(data) - length
    assert ImageCms.getProfileDescription(profile()).strip() == NAME
    # What brings D65 to the white of profiles, ICC.1:2022, annex E.
    adaptation = [[1.0479, 0.0229, -0.0502], [0.0296, 0.9905, -0.0171], [-0.0092, 0.0151, 0.7517]]
    told = next(data[offset + 8 : offset + length] for name, offset, length in entries if name == b"chad")
    found = np.array(struct.unpack(">9i", told)).reshape(3, 3) / 65536
    assert found == pytest.approx(np.array(adaptation), abs=2e-4)
