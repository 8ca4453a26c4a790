"""``python -m captum_ext.cli``, which is also what ``torchrun -m captum_ext.cli`` starts."""

import sys

from captum_ext.cli import main

sys.exit(main())
