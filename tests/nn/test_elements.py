"""What must hold for layers, correlation, warp and quantizer, whatever their weights are."""
import pytest
import torch
import torch.nn.functional as F

from ccvs.nn.correlation import correlation
from ccvs.nn.layers import Blur, BlurUp, EqualConv2d, fir_kernel, res_down, res_up, up_layer
from ccvs.nn.quantize import VectorQuantizer, nearest_codes, perplexity
from ccvs.nn.warp import warp
from tests.golden import wave


@pytest.fixture(autouse=True)
def seed(): torch.manual_seed(0)


def test_bias_before_blur():
    layer = up_layer(2, 3)
    layer[0].weight.data.zero_(), layer[0].bias.data.fill_(1)
    y = layer(torch.randn(1, 2, 4, 6))
    assert (y[..., 1:-1, 1:-1] == 4).all() and (y[..., 0, 1:-1] == 3.5).all() and (y[..., 1:-1, -1] == 3.5).all()
    assert (y[..., 0, 0] == 3.0625).all() and (y[..., -1, -1] == 3.0625).all()


@pytest.mark.parametrize('shape', [(8, 12), (7, 5)])
def test_enlarging_is_zero_stuffing_and_blur(shape):
    x = torch.randn(2, 3, *shape)
    stuffed = torch.zeros(2, 3, 2 * shape[0] - 1, 2 * shape[1] - 1)
    stuffed[..., ::2, ::2] = x
    torch.testing.assert_close(BlurUp()(x), Blur(2, gain=4.)(stuffed), rtol=1e-5, atol=1e-6)   # rounding


def test_shortcut_blurs_only_what_it_keeps():
    x, whole = torch.randn(1, 4, 8, 12), Blur(1)
    conv = EqualConv2d(4, 5, 1, stride=2, bias=False)
    skip = res_down(4, 5).skip
    skip[1].load_state_dict(conv.state_dict())
    torch.testing.assert_close(skip(x), conv(whole(x)), rtol=1e-5, atol=1e-6)                  # rounding


def test_blur_keeps_a_constant_and_its_gain():
    assert fir_kernel(4.).sum() == 4 and torch.equal(fir_kernel(), fir_kernel().T)
    assert (Blur(2)(torch.ones(1, 2, 9, 9))[..., 3:-3, 3:-3] == 1).all()


def test_resampled_shapes():
    assert res_down(4, 6)(torch.randn(1, 4, 8, 12)).shape == (1, 6, 4, 6)
    assert res_up(4, 6)(torch.randn(1, 4, 8, 12)).shape == (1, 6, 16, 24)


def test_correlation_golden_values():
    first, second = wave(0, 1, 5, 6, 6), wave(.5, 1, 5, 6, 6)
    for step, shape, mean, std, at, value in ((1, (1, 49, 6, 6), .296759, .312545, 882, .335215),
                                              (2, (1, 49, 3, 3), .091063, .206146, 220, .551289)):
        out = correlation(first[..., ::step, ::step], second[..., ::step, ::step])
        assert out.shape == shape
        found = torch.stack([out.mean(), out.std(unbiased=False), out.flatten()[at]])
        torch.testing.assert_close(found, torch.tensor([mean, std, value]), rtol=0, atol=2e-6)  # printed digits


def test_correlation_gradients():
    first, second = torch.randn(2, 1, 3, 4, 5, dtype=torch.double).requires_grad_().unbind(0)
    assert torch.autograd.gradcheck(correlation, (first, second))


def test_correlation_wants_equal_shapes():
    with pytest.raises(ValueError, match='one shape'): correlation(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 5))


@pytest.mark.parametrize('shape', [(8, 8), (6, 10)])
def test_warp_moves_whole_pixels_exactly(shape):
    feats, (h, w) = torch.randn(2, 3, *shape), shape
    torch.testing.assert_close(warp(feats, torch.zeros(2, 2, h, w)), feats, rtol=0, atol=1e-5)  # rounding of the grid
    motion = torch.tensor([2 * (w - 1) / w, -1 * (h - 1) / h]).view(1, 2, 1, 1).expand(2, 2, h, w)
    moved = warp(feats, motion)
    torch.testing.assert_close(moved[..., 1:, :-2], feats[..., :-1, 2:], rtol=0, atol=1e-5)
    assert moved[..., 0, :].abs().max() < 1e-5 and moved[..., -2:].abs().max() < 1e-5           # zeros outside


def test_warp_golden_values():
    motion = torch.tensor([.7, -1.3]).view(1, 2, 1, 1).expand(1, 2, 6, 6)
    out = warp(wave(0, 1, 5, 6, 6), motion)
    found = torch.stack([out.mean(), out.std(unbiased=False), *out.flatten()[[0, 60, 90, 179]]])
    expected = torch.tensor([.412706, .324967, 0, .411625, .431214, .155321])
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)                              # printed digits


def test_quantizer_golden_values():
    quantizer = VectorQuantizer(6, 4)
    j = torch.arange(24, dtype=torch.double)
    quantizer.embedding.weight.data = torch.sin(12.9898 * j).float().view(6, 4)
    b, c, h, w = torch.meshgrid(*map(torch.arange, (2, 4, 3, 3)), indexing='ij')
    feats = torch.sin(3. * c + 5 * h + 7 * w + b).requires_grad_()
    z_q, loss, codes = quantizer(feats)
    assert codes.flatten(1).tolist() == [[0, 5, 5, 3, 0, 5, 3, 3, 3], [5, 5, 5, 0, 5, 5, 3, 0, 0]]
    grads = torch.autograd.grad(loss, (feats, quantizer.embedding.weight), retain_graph=True)
    found = torch.stack([loss.detach(), grads[0].norm(), grads[1].norm()])
    torch.testing.assert_close(found, torch.tensor([.772230, .185260, .105054]), rtol=0, atol=2e-6)   # printed digits
    assert (torch.autograd.grad(z_q.sum(), feats)[0] == 1).all()


def test_quantising_twice_changes_nothing():
    quantizer = VectorQuantizer(32, 8)
    once = quantizer(torch.randn(2, 8, 4, 4))
    twice = quantizer(once.z_q)
    assert torch.equal(once.codes, twice.codes)
    torch.testing.assert_close(quantizer.lookup(once.codes), twice.z_q, rtol=0, atol=1e-6)      # z + (z_q - z)


def test_lowest_index_wins_ties():
    assert nearest_codes(torch.zeros(1, 2), torch.tensor([[1., 0.], [0., 1.], [-1., 0.]])).item() == 0


def test_perplexity_counts_codes_in_use():
    assert perplexity(torch.arange(8), 8).item() == pytest.approx(8, rel=1e-5)
    assert perplexity(torch.full((8,), 3), 8).item() == pytest.approx(1, rel=1e-5)


def test_channels_last_changes_nothing():
    x, block = torch.randn(2, 4, 8, 8), res_up(4, 6)
    plain = block(x)
    fast = block.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)                               # other order of sums
    assert F.mse_loss(fast, plain) < 1e-10
