"""``python -m hdr.cli`` is ``hdr``."""

import sys

from hdr.cli import main

sys.exit(main())
