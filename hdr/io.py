"""Reading photographs, reading and writing radiance, writing previews.

Photographs are 8- and 16-bit TIFF, PNG, JPEG, AVIF and HEIC, and linear light in floating-point TIFF; radiance is .hdr
(Radiance RGBE), .exr (OpenEXR) and floating-point TIFF. Whatever is written is written whole or not at all.
"""

from hdr._photographs import Photograph, read_ldr, read_photograph, shared_chroma
from hdr._picture_files import (
    HEIF_SUFFIXES,
    PREVIEW_SUFFIXES,
    RADIANCE_SUFFIXES,
    RAW_SUFFIXES,
    TIFF_SUFFIXES,
    damage_reported,
    is_raw,
    opened_image,
)
from hdr._previews import MOST_EXIF_BYTES, write_image, write_preview
from hdr._radiance import check_radiance, read_radiance, write_radiance

__all__ = [
    "HEIF_SUFFIXES",
    "MOST_EXIF_BYTES",
    "PREVIEW_SUFFIXES",
    "RADIANCE_SUFFIXES",
    "RAW_SUFFIXES",
    "TIFF_SUFFIXES",
    "Photograph",
    "check_radiance",
    "damage_reported",
    "is_raw",
    "opened_image",
    "read_ldr",
    "read_photograph",
    "read_radiance",
    "shared_chroma",
    "write_image",
    "write_preview",
    "write_radiance",
]
