"""Models whose every parameter and statistic is drawn at random, so that no bias is zero by accident."""

from __future__ import annotations

import torch
import torchvision
from torch import nn

INPUT_SIZES = {"vit": 224, "maxvit": 224, "inception": 75}

# One model of each family of torchvision, the smallest that has all the family's operations.
REPRESENTATIVES = [
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet"),
    *("inception_v3", "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf"),
    *("regnet_y_400mf", "resnet18", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t"),
    *("swin_v2_t", "vgg11_bn", "vit_b_32", "wide_resnet50_2"),
]


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Draw biases, norms, running statistics, tokens, layer scales and the head at random; double, eval mode."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double().eval()

    def normal(like):
        return 0.3 * torch.randn(like.shape, generator=generator, dtype=torch.float64)

    def positive(like):
        return 0.5 + torch.rand(like.shape, generator=generator, dtype=torch.float64)

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_scale = name.endswith("weight") and parameter.dim() == 1
            if is_scale:
                parameter.copy_(positive(parameter))
            elif parameter.dim() <= 1 or any(word in name for word in ("token", "pos", "layer_scale", "gamma")):
                parameter.copy_(normal(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(normal(buffer))
            elif name.endswith("running_var"):
                buffer.copy_(positive(buffer))
        heads = [module for module in model.modules() if isinstance(module, nn.Linear)]
        if heads:
            heads[-1].weight.copy_(normal(heads[-1].weight) / heads[-1].in_features ** 0.5)
    return model


def torchvision_model(name: str, **options) -> nn.Module:
    torch.manual_seed(0)
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    return randomise(torchvision.models.get_model(name, weights=None, **options))


def torchvision_images(name: str, n_examples: int = 1) -> torch.Tensor:
    size = next((size for family, size in INPUT_SIZES.items() if name.startswith(family)), 64)
    return torch.randn(n_examples, 3, size, size, dtype=torch.float64)
