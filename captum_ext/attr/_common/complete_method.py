"""What methods have in common whose attributions sum to a change of the output."""

import re
from typing import Any, TypeVar

from captum_ext._errors import InvalidArgumentError

Method = TypeVar("Method", bound="CompleteMethod")


class CompleteMethod:
    """Mixin for subclasses of ``captum.attr.GradientAttribution``; stands before it among the bases."""

    def __new__(cls: type[Method], *args: Any, **keywords: Any) -> Method:
        """Make the method; raise `InvalidArgumentError` for what Captum's methods take and these have no use for."""
        if "multiply_by_inputs" in keywords:
            raise InvalidArgumentError(
                f"multiply_by_inputs={keywords['multiply_by_inputs']!r} was given: {cls.__name__} credits features "
                "with changes of the output, in its units, and has no form without the inputs. Leave it out; for plain "
                "gradients take captum.attr.Saliency."
            )
        return super().__new__(cls)

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
