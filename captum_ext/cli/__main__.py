"""``python -m captum_ext.cli``, which is also what ``torchrun -m captum_ext.cli`` starts."""

from captum_ext.cli import app

app(prog_name="captum-ext")
