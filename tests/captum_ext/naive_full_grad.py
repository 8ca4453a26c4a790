"""The published saliency maps of full gradients, written out naively: module hooks, every channel upsampled."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def rescale(maps: Tensor) -> Tensor:
    """Of each example over all channels and cells, as published."""
    maps = maps.abs()
    maps = torch.stack([m - m.min() for m in maps])
    return torch.stack([m / (m.max() + 1e-6) for m in maps])


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=True).sum(1, keepdim=True)


def naive_gradients(model: nn.Module, x: Tensor, target: int) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The input gradient, and for each layer with a bias the gradient at its output and the bias, by module hooks."""
    outputs = []

    def keep(layer, args, output):
        # A copy goes on, since activations in place would change what was kept.
        outputs.append((layer, output))
        return output.clone()

    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.BatchNorm2d)]
    handles = [layer.register_forward_hook(keep) for layer in layers if layer.bias is not None]
    leaf = x.clone().requires_grad_()
    output = model(leaf)[:, target].sum()
    for handle in handles:
        handle.remove()
    gradient, *adjoints = torch.autograd.grad(output, [leaf, *(output for _, output in outputs)])
    biases = []
    for layer, _ in outputs:
        bias = layer.bias.detach()
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            bias = bias - layer.running_mean * layer.weight.detach() / torch.sqrt(layer.running_var + layer.eps)
        biases.append(bias)
    return gradient, adjoints, biases


def naive_full_grad(model: nn.Module, x: Tensor, target: int, *, simple: bool = False) -> Tensor:
    """FullGrad's map of an eval-mode model; ``simple`` leaves the biases out."""
    gradient, adjoints, biases = naive_gradients(model, x, target)
    saliency = rescale(gradient * x).sum(1, keepdim=True)
    for adjoint, bias in zip(adjoints, biases, strict=True):
        if adjoint.dim() == 4:
            maps = adjoint if simple else adjoint * bias.reshape(1, -1, 1, 1)
            saliency = saliency + upsample(rescale(maps), (x.shape[2], x.shape[3]))
    return saliency


def naive_smooth_full_grad(model: nn.Module, x: Tensor, target: int, noises: list[Tensor]) -> Tensor:
    """SmoothFullGrad's map for given noise."""
    sums: list[Tensor] = []
    for noise in noises:
        noisy = x + noise
        gradient, adjoints, biases = naive_gradients(model, noisy, target)
        maps = [(gradient * noisy).sum(1, keepdim=True)]
        maps += [a * b.reshape(1, -1, 1, 1) for a, b in zip(adjoints, biases, strict=True) if a.dim() == 4]
        sums = [total + own for total, own in zip(sums, maps, strict=True)] if sums else maps
    return torch.stack([upsample(rescale(total), (x.shape[2], x.shape[3])) for total in sums]).sum(0)
