"""Attribution methods that Captum lacks, in Captum's own interface."""

from captum_ext.attr import IDGI, BlurIG, GuidedIG, LayerIDGI, PathIG

__all__ = ["IDGI", "BlurIG", "GuidedIG", "LayerIDGI", "PathIG"]
__version__ = "0.1.0"
