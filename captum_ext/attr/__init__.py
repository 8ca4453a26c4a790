"""Attribution methods, as subclasses of ``captum.attr.GradientAttribution``."""
