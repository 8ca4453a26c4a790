"""Every test starts from the same seed, and may take its time."""

import hypothesis
import matplotlib
import pytest
import torch

from tests.one_process import pytest_xdist_make_scheduler  # noqa: F401  a hook

matplotlib.use("Agg")

# By itself Hypothesis fails what takes 0.2 s, which a busy machine makes of anything.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")

LONGEST = ("test_tutorials.py", "test_documentation.py", "test_package.py")

# Importing it, as the search for doctests does, hides packages from everything that is imported after it.
collect_ignore = ["base_install.py"]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "cuda" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
    # Notebooks, pages and the check of types take long: begun last, they would keep one process busy while others wait.
    items.sort(key=lambda item: item.path.name not in LONGEST)
