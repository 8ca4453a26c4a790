"""What the commands say is read line by line."""

import contextlib
import io
import re

from tqdm import tqdm

from hdr.cli._console import note


def test_remark_does_not_stand_behind_a_progress_bar():
    shown = io.StringIO()
    with contextlib.redirect_stderr(shown), tqdm(total=2, desc="Merging") as bar:
        note("Note: it is late")
        bar.update(2)
    # A terminal goes back to the first column at \r, where the bar has been overwritten with spaces.
    lines = re.split("[\r\n]+", shown.getvalue())
    assert "Note: it is late" in lines
    assert lines[lines.index("Note: it is late") - 1].strip() == ""
