"PSNR and SSIM: against scikit-image on a thousand pairs, against closed forms, and the same number in any batch."
import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ccvs.core.seed import rng
from ccvs.metrics.image import psnr, ssim


def pair(i):
    "Two random but related frames of varying size and type, and their range."
    draw = rng(i, 'pair')
    shape = (3, *draw.integers(7, 40, 2))
    a = draw.random(shape)
    b = np.clip(a + draw.normal(0, draw.random(), shape), 0, 1)
    return [(a, b, 1), (a * 2 - 1, b * 2 - 1, 2), ((a * 255).astype(np.uint8), (b * 255).astype(np.uint8), 255)][i % 3]


@pytest.mark.parametrize('hundred', range(10))
def test_agrees_with_scikit_image(hundred):
    for i in range(100 * hundred, 100 * hundred + 100):
        a, b, white = pair(i)
        x, y = torch.from_numpy(a), torch.from_numpy(b)
        # 1e-6 is asked for; both are double precision, only the order of additions differs
        assert abs(ssim(x, y, white).item() - structural_similarity(a, b, channel_axis=0, data_range=white)) < 1e-9
        assert abs(psnr(x, y, white).item() - peak_signal_noise_ratio(a, b, data_range=white)) < 1e-9


def test_constant_frames_in_closed_form():
    a, b = torch.full((3, 9, 9), 0.25, dtype=torch.float64), torch.full((3, 9, 9), 0.75, dtype=torch.float64)
    c1 = 1e-4
    assert abs(ssim(a, b, 1).item() - (2 * 0.25 * 0.75 + c1) / (0.25**2 + 0.75**2 + c1)) < 1e-12  # no variance: first factor only
    assert abs(psnr(a, b, 1).item() - 20 * math.log10(2)) < 1e-12


def test_one_window_in_closed_form():
    a = rng(0).random((1, 7, 7))
    c1, c2, b = 1e-4, 9e-4, 1 - a
    m, v = a.mean(), a.var(ddof=1)
    expected = (2 * m * (1 - m) + c1) * (c2 - 2 * v) / ((m**2 + (1 - m)**2 + c1) * (2 * v + c2))  # covariance is -v
    assert abs(ssim(torch.from_numpy(a), torch.from_numpy(b), 1).item() - expected) < 1e-12


def test_identical_frames():
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert psnr(x, x, 1).tolist() == [math.inf] * 2
    assert (ssim(x, x, 1) - 1).abs().max() < 1e-12


@pytest.mark.parametrize('measure', [psnr, ssim])
def test_same_score_in_any_batch(measure):
    g = torch.Generator().manual_seed(0)
    a, b = torch.rand(64, 3, 33, 47, generator=g), torch.rand(64, 3, 33, 47, generator=g)
    whole = measure(a, b, 1)
    for size in (1, 7):
        assert torch.equal(torch.cat([measure(a[i:i + size], b[i:i + size], 1) for i in range(0, 64, size)]), whole)
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try: assert torch.equal(measure(a, b, 1), whole)
    finally: torch.set_num_threads(threads)


@pytest.mark.parametrize('measure', [psnr, ssim])
def test_shapes_broadcast_and_range_scales(measure):
    g = torch.Generator().manual_seed(1)
    a, b = torch.rand(2, 1, 5, 3, 8, 9, generator=g).double(), torch.rand(2, 4, 5, 3, 8, 9, generator=g).double()
    scores = measure(a, b, 1)
    assert scores.shape == (2, 4, 5) and scores.dtype == torch.float64
    assert torch.equal(scores[1, 2, 3], measure(a[1, 0, 3], b[1, 2, 3], 1))
    torch.testing.assert_close(measure(a * 255, b * 255, 255), scores, rtol=1e-9, atol=1e-9)  # the unit does not matter
    assert measure(a, b, 2).mean() > scores.mean() and measure(a[:0], b[:0], 1).shape == (0, 4, 5)


@pytest.mark.parametrize('measure', [psnr, ssim])
def test_errors(measure):
    x = torch.zeros(3, 8, 8)
    with pytest.raises(ValueError, match='of one size'): measure(x, x[:1], 1)
    with pytest.raises(ValueError, match='of one size'): measure(x[0], x[0], 1)
    with pytest.raises(ValueError, match='black to white'): measure(x, x, 0)


def test_too_small_for_a_window():
    with pytest.raises(ValueError, match='7x7 windows'): ssim(torch.zeros(3, 6, 9), torch.zeros(3, 6, 9), 1)
