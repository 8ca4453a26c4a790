"""What is refused; needs nothing but the standard library."""

from __future__ import annotations


class RefusedError(ValueError):
    """What was asked for cannot be done; the message says what was given, what is allowed and what to do.

    The commands tell it in one line; whatever else is raised is a mistake of ours, and a traceback.
    """
