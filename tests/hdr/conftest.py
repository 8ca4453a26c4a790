from __future__ import annotations

import pytest

import hdr.merge


@pytest.fixture(autouse=True)
def float32_on_every_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merges are the same on every machine that runs the tests."""
    monkeypatch.setattr(hdr.merge, "_computes_bfloat16", lambda: False)
