"""Multi-exposure HDR reconstruction without ghosts, with HDR-GAN.

:class:`Bracket` holds three exposures, :func:`register` undoes the camera's motion between them, :class:`Merger` turns
them into radiance, and :mod:`hdr.io` reads and writes the files. The networks are in :mod:`hdr.nn`, the data sets in
:mod:`hdr.data`, the training in :mod:`hdr.training`.
"""

from hdr.bracket import Bracket
from hdr.io import read_ldr, read_radiance, write_preview, write_radiance
from hdr.merge import Merger
from hdr.registration import register
from hdr.weights import load_generator, save_generator

__all__ = [
    "Bracket",
    "Merger",
    "load_generator",
    "read_ldr",
    "read_radiance",
    "register",
    "save_generator",
    "write_preview",
    "write_radiance",
]
