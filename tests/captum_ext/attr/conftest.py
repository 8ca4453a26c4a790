"""Tests of attribution methods that are not alone in their process."""

from __future__ import annotations

import threading

import pytest


@pytest.fixture
def idle_thread():
    """A thread that does nothing, so that this one is not alone, as in a notebook."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    yield
    end.set()
    thread.join()
