"""Nothing is computed in float64 for inputs in float32: some devices have none."""

from __future__ import annotations

import kornia.filters  # noqa: F401  (here: its import makes tensors of its own)
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from captum_ext import IDGI, BlurIG, FullGrad, GuidedIG, LayerIDGI, PathIG, SimpleFullGrad, SmoothFullGrad
from captum_ext.attr import decompose
from captum_ext.metrics import completeness, deletion, insertion


class RefusesDouble(TorchDispatchMode):
    """A device without float64: no operation may take or give a tensor of it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, output)):
            if (
                isinstance(leaf, Tensor) and leaf.dim()
            ):  # without axes it is a number of Python's, which is of no device
                assert leaf.dtype not in (torch.float64, torch.complex128), f"{func} in float64"
        return output


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.GroupNorm(2, 4),
        nn.GELU(),
        nn.Conv2d(4, 6, 2, stride=2),
        nn.Flatten(2),
        nn.TransformerEncoderLayer(16, 2, 8, batch_first=True),
        nn.LayerNorm(16),
        nn.Flatten(),
        nn.Linear(96, 5),
        nn.Softmax(1),
    ).eval()


IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
CALLS = {
    "idgi": lambda f: IDGI(f).attribute(IMAGES, target=1, n_steps=3, return_path_residual=True),
    "layer-idgi": lambda f: LayerIDGI(f, f[3]).attribute(IMAGES, target=1, n_steps=3, return_convergence_delta=True),
    "path-ig": lambda f: PathIG(f).attribute(IMAGES, target=1, n_steps=3, return_convergence_delta=True),
    "blur-ig": lambda f: BlurIG(f, 2.0).attribute(IMAGES, target=1, n_steps=3),
    "full-grad": lambda f: FullGrad(f).attribute(IMAGES, target=1, baselines=0.5, return_convergence_delta=True),
    "full-grad, interpolated": lambda f: FullGrad(f).attribute(IMAGES, target=1, projection="interpolate"),
    "full-grad, sent back": lambda f: FullGrad(f).attribute(IMAGES, target=1, projection="backflow"),
    "full-grad, published map": lambda f: FullGrad(f).attribute(IMAGES, target=1, postprocess="paper"),
    "simple full-grad": lambda f: SimpleFullGrad(f).attribute(IMAGES, target=1),
    "smooth full-grad": lambda f: SmoothFullGrad(f).attribute(IMAGES, target=1, n_samples=2),
    "layers": lambda f: FullGrad(f).layer_attributions(IMAGES, target=1),
    "decomposition": lambda f: decompose(f, IMAGES, 1).delta(),
    "completeness": lambda f: completeness(f, IMAGES, IMAGES, target=1),
    "insertion": lambda f: insertion(f, IMAGES, IMAGES, target=1, n_steps=3),
    "deletion": lambda f: deletion(f, IMAGES, IMAGES, target=1, n_steps=3),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_float64_is_not_touched_for_inputs_in_float32(call):
    with RefusesDouble():
        call(network())


def test_the_guided_path_keeps_account_in_float64_where_there_is_one():
    """It is the one place that does, to make no step for nothing, and it asks the device (see `GuidedPath`)."""
    with RefusesDouble(), pytest.raises(AssertionError, match="float64"):
        GuidedIG(network()).attribute(IMAGES, target=1, n_steps=3)
