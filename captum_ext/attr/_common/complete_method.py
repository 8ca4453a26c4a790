"""What methods have in common whose attributions sum to a change of the output."""

import re


class CompleteMethod:
    """Mixin for subclasses of ``captum.attr.GradientAttribution``; stands before it among the bases."""

    @classmethod
    def get_name(cls) -> str:
        """Return the name for people: the words of the class's name, abbreviations as one."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", cls.__name__)

    def has_convergence_delta(self) -> bool:
        """Return True: the attributions sum to the change of the output."""
        return True

    @property
    def multiplies_by_inputs(self) -> bool:
        """True: attributions are in units of the output."""
        return True
