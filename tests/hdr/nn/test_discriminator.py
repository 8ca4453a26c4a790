import pytest
import torch
from torch.nn.utils import parametrize

from hdr.nn import PatchDiscriminator


def test_receptive_field_is_seventy_pixels() -> None:
    discriminator = PatchDiscriminator(4).eval()
    picture = torch.rand(1, 3, 160, 160, requires_grad=True)
    body = discriminator.body(picture)
    (gradient,) = torch.autograd.grad(body[0, 0, body.shape[2] // 2, body.shape[3] // 2], picture)
    rows = gradient.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert int(rows[-1] - rows[0]) + 1 == PatchDiscriminator.receptive_field == 70


def test_five_convolutions_have_unit_spectral_norm() -> None:
    discriminator = PatchDiscriminator(8)
    for _ in range(30):  # a power iteration a step
        discriminator(torch.rand(1, 3, 24, 24))
    convolutions = [m for m in discriminator.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 5
    for convolution in convolutions:
        assert parametrize.is_parametrized(convolution, "weight")
        assert torch.linalg.matrix_norm(convolution.weight.flatten(1), 2).item() == pytest.approx(1.0, abs=0.05)


def test_layers_are_convolutions_with_leaky_slopes_between_and_nothing_after_the_last() -> None:
    discriminator = PatchDiscriminator(4).eval()
    with torch.no_grad():
        for parameter in discriminator.parameters():  # large, so that both signs appear everywhere
            parameter.normal_()
        picture = torch.rand(2, 3, 48, 40)
        convolutions = [m for m in discriminator.modules() if isinstance(m, torch.nn.Conv2d)]
        features = picture
        for index, (convolution, stride) in enumerate(zip(convolutions, (2, 2, 2, 1, 1), strict=True)):
            if index:
                features = torch.where(features > 0, features, 0.2 * features)
            features = torch.nn.functional.conv2d(features, convolution.weight, convolution.bias, stride, padding=1)
        q = discriminator(picture)
    assert features.min() < 0 < features.max()
    torch.testing.assert_close(q, features.flatten(1), atol=1e-5, rtol=1e-4)


def test_output_is_one_row_of_patches_per_picture() -> None:
    assert PatchDiscriminator(4)(torch.rand(3, 3, 128, 96)).shape == (3, 14 * 10)
    assert PatchDiscriminator(4)(torch.rand(1, 3, 24, 24)).shape == (1, 1)


@pytest.mark.parametrize("shape", [(1, 3, 23, 64), (3, 64, 64), (1, 6, 64, 64)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(B, 3, H, W\)"):
        PatchDiscriminator(4)(torch.rand(shape))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_bfloat16_forward_and_backward() -> None:
    discriminator = PatchDiscriminator(8).cuda()
    with torch.autocast("cuda", torch.bfloat16):
        q = discriminator(torch.rand(2, 3, 64, 64, device="cuda"))
    q.float().square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in discriminator.parameters() if p.grad is not None)
