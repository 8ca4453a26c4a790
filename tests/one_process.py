"""A plug-in of pytest: tests that share what takes long to make are all run by one of several processes.

By the names of files. The mark for it (``xdist_group``) travels in the identifiers of tests; since pytest 9.2 they are
read-only, and it is lost without a word: every process makes everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

FILES = (
    "tests/captum_ext/evaluation/test_demo.py",  # a network that is trained
    "tests/docs/test_site.py",  # the site
    "tests/hdr/test_export.py",  # traced and exported graphs
)
WITH_FILE = {
    # The page exports what that file does.
    "tests/docs/test_documentation.py::test_python_blocks_run_in_order_and_print_what_the_page_says"
    "[docs/how-to/export.md]": "tests/hdr/test_export.py",
}
"""Tests of other files that share it."""


def group_of(test: str) -> str:
    """Tests of one group are run by one process: one by one, but those of a file of :data:`FILES` together."""
    path = test.split("::")[0]
    return WITH_FILE.get(test, path if path in FILES else test)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Groups as :func:`group_of` says, the largest first."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Scheduling(config, log) if config.getoption("dist") == "loadgroup" else None
