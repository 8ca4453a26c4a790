"""Data sets of brackets of moving scenes, with their ground truth."""

from hdr.data.kalantari import KalantariDataset
from hdr.data.sample import HdrSample
from hdr.data.synthetic import SyntheticBrackets

__all__ = ["HdrSample", "KalantariDataset", "SyntheticBrackets"]
