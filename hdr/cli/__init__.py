"""The command line: ``hdr merge``, ``tonemap``, ``evaluate``, ``train``, ``export`` and ``demo``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from hdr._extras import is_ours, missing_package_message
from hdr._files import unwound_when_terminated
from hdr.cli._refusals import refusal


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code: 0, or 1 after what was refused or failed, told on the standard error.

    Parameters
    ----------
    arguments
        Words after the program's name; None takes those of the process.
    """
    # Before it is imported: of tags that it does not know it would tell a line each, and what fails is told here.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    try:
        from cyclopts import CycloptsError

        from hdr.cli._console import every_name_told, noted_warnings
        from hdr.cli.app import app
    except ModuleNotFoundError as error:
        return _refuse(missing_package_message(error))
    try:
        with every_name_told(), noted_warnings(), unwound_when_terminated():
            return app(arguments) or 0
    # A usage that the command line does not have, a request that cannot be met, a file that cannot be written, memory
    # that does not suffice. All else is a mistake of ours, which a traceback helps to mend.
    except CycloptsError as error:
        return _refuse(str(error))
    except ImportError as error:
        # Cyclopts imports the commands when they are asked for, and makes what fails there the cause of its own error.
        missing = error if isinstance(error, ModuleNotFoundError) else error.__cause__
        if not isinstance(missing, ModuleNotFoundError) or is_ours(missing):
            raise
        return _refuse(missing_package_message(missing))
    except Exception as error:
        words = sys.argv[1:] if arguments is None else arguments
        told = refusal(error, command=words[0] if words else "")
        if told is None:
            raise
        return _refuse(told)


def _refuse(message: str) -> int:
    print(f"Error: {message}", file=sys.stderr)
    return 1
