"""The command line: ``captum-ext explain``, ``evaluate``, ``methods`` and ``demo``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from captum_ext._errors import MissingExtraError, RefusedError, described, extra
from captum_ext._files import unwound_when_terminated


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code: 0, or 1 after what was refused or failed, told on the standard error.

    Parameters
    ----------
    arguments
        Words after the program's name; None takes those of the process.
    """
    try:
        with extra("cli"):
            from cyclopts import CycloptsError

            from captum_ext.cli._console import every_name_told
            from captum_ext.cli.app import app
    except MissingExtraError as error:
        return _refuse(str(error))
    try:
        with every_name_told(), unwound_when_terminated():
            return app(arguments) or 0
    # A usage that the command line does not have, a request that cannot be met, a file that cannot be written. All else
    # is a mistake of ours, which a traceback helps to mend.
    except CycloptsError as error:
        return _refuse(str(error))
    except RefusedError as error:
        return _refuse(described(error))
    except OSError as error:
        file = error.filename2 or error.filename
        return _refuse(f"{file}: {error.strerror}" if file and error.strerror else described(error))


def _refuse(message: str) -> int:
    print(f"Error: {message}", file=sys.stderr)
    return 1
