"""Arguments of Captum's methods that have no meaning for complete ones are refused with the reason."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from captum_ext import IDGI, BlurIG, GuidedIG, LayerIDGI, PathIG
from captum_ext.attr import InvalidArgumentError
from captum_ext.attr._common.complete_method import CompleteMethod

X = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
PATHS = {
    "idgi": IDGI,
    "path-ig": PathIG,
    "blur-ig": BlurIG,
    "guided-ig": GuidedIG,
    "layer-idgi": lambda f: LayerIDGI(f, f[0]),
}


@pytest.mark.parametrize("method", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("by_position", [False, True], ids=["keyword", "position"])
def test_captums_quadrature_is_told_that_there_is_none(method, by_position):
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    args, keywords = ((None, 1, None, 50, "riemann_left"), {}) if by_position else ((), {"method": "riemann_left"})
    with pytest.raises(InvalidArgumentError, match=r"'riemann_left' was given.*no quadrature to choose.*Leave it out"):
        method(model).attribute(X, *args, **keywords)


@pytest.mark.parametrize("method", [*CompleteMethod.__subclasses__(), IDGI, BlurIG, GuidedIG])
def test_multiply_by_inputs_is_told_that_there_is_no_other_form(method):
    with pytest.raises(InvalidArgumentError, match=r"multiply_by_inputs=False was given.*Leave it out"):
        method(lambda x: x, multiply_by_inputs=False)


def test_other_unknown_arguments_are_pythons():
    with pytest.raises(TypeError, match="step"):
        IDGI(lambda x: x.sum((1, 2, 3))).attribute(X, step=3)
