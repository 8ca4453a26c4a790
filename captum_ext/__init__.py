"""Attribution methods that Captum lacks, in Captum's own interface."""

__version__ = "0.1.0"
