"""Attribution methods that Captum lacks, in Captum's own interface."""

from captum_ext.attr import IDGI, BlurIG, FullGrad, GuidedIG, LayerIDGI, PathIG, SimpleFullGrad, SmoothFullGrad

__all__ = ["IDGI", "BlurIG", "FullGrad", "GuidedIG", "LayerIDGI", "PathIG", "SimpleFullGrad", "SmoothFullGrad"]
__version__ = "0.1.0"
