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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Tests one by one, but those of a file of :data:`FILES` together, and before all others."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.split("::")[0]
            return path if path in FILES else nodeid

    return Scheduling(config, log) if config.getoption("dist") == "loadgroup" else None
