"""What methods have in common whose attributions sum to a change of the output."""


class CompleteMethod:
    """Mixin for subclasses of ``captum.attr.GradientAttribution``; stands before it among the bases."""

    def has_convergence_delta(self) -> bool:
        """Return True: the attributions sum to the change of the output."""
        return True

    @property
    def multiplies_by_inputs(self) -> bool:
        """True: attributions are in units of the output."""
        return True
