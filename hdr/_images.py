"""What the images of a bracket have to be, and other tensors."""

from __future__ import annotations

from torch import Tensor

from hdr._errors import RefusedError


def check_tensor(value: object, name: str) -> None:
    """Raise TypeError where something else than a tensor is given, such as an array of NumPy or a list."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}; torch.as_tensor makes one")


def check_images(ldr: Tensor, smallest_side: int) -> None:
    """Raise ValueError unless images are two or more RGB exposures (N, 3, H, W) of floating-point values in [0, 1].

    Anything but a tensor is a TypeError.
    """
    check_tensor(ldr, "ldr")
    if ldr.ndim != 4 or ldr.shape[0] < 2 or ldr.shape[1] != 3:
        raise RefusedError(f"expected two or more RGB exposures of shape (N, 3, H, W), got {tuple(ldr.shape)}")
    if not ldr.is_floating_point():
        raise RefusedError(f"expected floating point values in [0, 1], got {ldr.dtype}; divide by the largest level")
    if min(ldr.shape[-2:]) < smallest_side:
        raise RefusedError(
            f"images must be at least {smallest_side} pixels wide and high, got {tuple(ldr.shape[-2:])} (H, W)"
        )
    low, high = float(ldr.detach().min()), float(ldr.detach().max())
    if not (low >= 0.0 and high <= 1.0):  # also refuses NaN
        raise RefusedError(f"image values must lie in [0, 1], got values from {low:g} to {high:g}")


def hold_eight_bits(values: Tensor) -> bool:
    """Whether values in [0, 1] are those of 8-bit files."""
    levels = values * 255
    return bool((levels - levels.round()).abs().max() < 1e-3)
