"""The gate is additive attention: query from the reference, key from the aligned exposure."""

import torch
import torch.nn.functional as F

from hdr.nn.attention import SpatialAttentionGate


def test_attention_is_the_published_formula_with_the_reference_as_the_query() -> None:
    gate = SpatialAttentionGate(6)
    reference, aligned = torch.randn(2, 6, 5, 7), torch.randn(2, 6, 5, 7)
    # sigmoid(psi(sigma(W_x x + W_g g + b))) (Oktay et al., 2018, equation 1), as products of matrices.
    query = torch.einsum("oc,bchw->bohw", gate.query.weight[:, :, 0, 0], reference)
    query = query + gate.get_parameter("query.bias").view(1, -1, 1, 1)
    key = torch.einsum("oc,bchw->bohw", gate.key.weight[:, :, 0, 0], aligned)
    hidden = torch.where(query + key > 0, query + key, 0.1 * (query + key))
    expected = 1 / (1 + torch.exp(-F.conv2d(hidden, gate.score.weight, gate.score.bias, padding=1)))
    attention = gate.attention(reference, aligned)
    torch.testing.assert_close(attention, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(gate(reference, aligned), aligned * expected, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(gate.attention(aligned, reference), attention, atol=1e-3)


def test_attention_keeps_the_aligned_features_scale_place_by_place() -> None:
    gate, features = SpatialAttentionGate(4), torch.randn(1, 4, 6, 6)
    attention = gate.attention(torch.randn(1, 4, 6, 6), features)
    assert attention.shape == (1, 1, 6, 6)
    assert 0 < attention.min() <= attention.max() < 1
