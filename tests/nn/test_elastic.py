"The elastic view: against scipy, against a slow plain reading of the definition, and its invariants."
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from ccvs.nn.elastic import (ELASTIC, ElasticCfg, bend_and_zoom, corrupt, drop_outside, elastic_view, fill_holes,
                             gaussian_blur, invert_motion, _last_arrival, outside_to_zero, smooth_noise)
from ccvs.nn.warp import warp


@pytest.mark.parametrize('sigma', [.3, 1., 6.4, 25., 90.])
def test_smooth_noise_is_scipys(sigma):
    noise = torch.rand(2, 3, 24, 17, dtype=torch.double)
    want = np.stack([[gaussian_filter(c, sigma) for c in image] for image in noise.numpy()])
    torch.testing.assert_close(smooth_noise(noise, sigma), torch.tensor(want), rtol=0, atol=1e-12)   # same sums, another order


def plain_inverse(motion, outside):
    "One picture, pixel by pixel, as the definition reads."
    _, h, w = motion.shape
    out, known = np.zeros((2, h, w)), np.zeros((h, w), bool)
    for i in range(h):
        for j in range(w):
            (x, in_x), (y, in_y) = outside(motion[0, i, j] + j, w), outside(motion[1, i, j] + i, h)
            if in_x and in_y: out[:, int(y), int(x)], known[int(y), int(x)] = -motion[:, i, j].numpy(), True
    bell = np.exp(-.5 * (np.arange(-1, 2) / .5) ** 2)
    while not known.all():
        before, seen = out.copy(), known.copy()
        for i, j in np.argwhere(~seen):
            if any(seen[a, b] for a, b in ((i-1, j), (i+1, j), (i, j-1), (i, j+1)) if 0 <= a < h and 0 <= b < w):
                near = [(a, b) for a in range(max(i-1, 0), min(i+2, h)) for b in range(max(j-1, 0), min(j+2, w)) if seen[a, b]]
                weight = np.array([bell[a - i + 1] * bell[b - j + 1] for a, b in near])
                out[:, i, j] = sum(k * before[:, a, b] for k, (a, b) in zip(weight, near)) / weight.sum()
                known[i, j] = True
    return torch.tensor(out).float()


@pytest.mark.parametrize('outside', [drop_outside, outside_to_zero])
def test_inverse_is_the_plain_one(outside):
    g = torch.Generator().manual_seed(0)
    motion = 60 * smooth_noise(torch.rand(3, 2, 14, 19, generator=g) * 2 - 1, 3.)    # a batch with many holes
    want = torch.stack([plain_inverse(m, outside) for m in motion])
    torch.testing.assert_close(invert_motion(motion, outside), want, rtol=1e-5, atol=1e-5)   # float32 averages


@pytest.mark.parametrize('outside', [drop_outside, outside_to_zero])
@pytest.mark.parametrize('shift', [(1.2, 0.), (-3.7, 2.5), (0., 0.), (11.9, -9.1)])
def test_inverse_of_constant(shift, outside):
    motion = torch.tensor(shift).view(1, 2, 1, 1).expand(2, 2, 10, 13)
    torch.testing.assert_close(invert_motion(motion, outside), -motion, rtol=1e-6, atol=1e-6)   # averages of equal numbers


def test_every_arrow_lost():
    motion = torch.tensor([[50., 0.], [0., 0.]]).view(2, 2, 1, 1).expand(2, 2, 8, 8)
    torch.testing.assert_close(invert_motion(motion), -motion, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match='known pixel in every picture'):
        fill_holes(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool))


def test_last_write_wins_whatever_the_threads():
    motion = torch.zeros(1, 2, 60, 60); motion[:, 0] = 30 - torch.arange(60); motion[:, 1] = 30 - torch.arange(60)[:, None]
    last = _last_arrival(motion, drop_outside)                                             # all on one pixel
    assert last.view(60, 60)[30, 30] == 3599 and (last >= 0).sum() == 1


def test_batch_is_item_by_item():
    motion = 20 * smooth_noise(torch.rand(4, 2, 16, 16) * 2 - 1, 2.)
    alone = torch.cat([invert_motion(m[None]) for m in motion])
    torch.testing.assert_close(invert_motion(motion), alone, rtol=1e-6, atol=1e-6)        # order of sums


def test_dropping_beats_zero_at_the_border():
    "Why dropping is the default: the error of the motion over whole pictures, borders included."
    g = torch.Generator().manual_seed(1)
    where = torch.stack(torch.meshgrid(*[torch.arange(64.)] * 2, indexing='xy')).expand(32, -1, -1, -1)
    field = 48 * smooth_noise(torch.rand(32, 2, 64, 64, generator=g) * 2 - 1, 6.4)
    true = invert_by_search(field)
    error = {rule: (invert_motion(field, rule) - true).norm(dim=1) for rule in (drop_outside, outside_to_zero)}
    seen = ((where + true >= 0) & (where + true <= 63)).all(1)
    mean = {rule: e[seen].mean() for rule, e in error.items()}
    rim = {rule: e[:, 0][seen[:, 0]].mean() for rule, e in error.items()}
    assert mean[drop_outside] < mean[outside_to_zero] and rim[drop_outside] < .7 * rim[outside_to_zero]


def invert_by_search(field):
    "u with u(p) = -field(p + u(p)), by repeated substitution; the field is extended by its border."
    u = -field
    rows, cols = torch.meshgrid(torch.arange(64.), torch.arange(64.), indexing='ij')
    for _ in range(60):
        grid = torch.stack([cols + u[:, 0], rows + u[:, 1]], -1) / 31.5 - 1
        u = .5 * u - .5 * F.grid_sample(field, grid, padding_mode='border', align_corners=True)
    return u


@pytest.mark.parametrize(('zoom', 'limit'), [(1., .2), (.9, .8), (1.1, .8)])
def test_motion_leads_back(zoom, limit):
    "target(p) ~ given(p + motion(p)): pixels hold their own addresses, errors are pixels of the original."
    g = torch.Generator().manual_seed(2)
    where = torch.stack(torch.meshgrid(*[torch.arange(64.)] * 2, indexing='xy')).expand(16, -1, -1, -1)
    field = 48 * smooth_noise(torch.rand(16, 2, 64, 64, generator=g) * 2 - 1, 6.4)
    given, target, motion = bend_and_zoom(where, field, torch.full((16,), zoom))
    error = (warp(given, motion) - target).norm(dim=1)[:, 8:-8, 8:-8]
    assert error.mean() < limit
    assert error.mean() < .25 * (given - target).norm(dim=1)[:, 8:-8, 8:-8].mean()      # far better than no motion


def test_which_picture_is_magnified():
    frames, flat = torch.randn(2, 3, 16, 16), torch.zeros(2, 2, 16, 16)
    given, target, motion = bend_and_zoom(frames, flat, torch.tensor([.9, 1.1]))
    torch.testing.assert_close(given[0], frames[0], rtol=0, atol=1e-5)                    # rounding of the sampling grid
    assert torch.equal(target[1], frames[1]) and not torch.allclose(given[1], frames[1])
    assert motion[0, 0, 0, 0] > 0 > motion[1, 0, 0, 0]


def test_outside_counts_as_hidden():
    motion = torch.zeros(1, 2, 8, 8); motion[:, 0] = 3
    given, masked = corrupt(torch.ones(1, 3, 8, 8), motion, torch.zeros(1, 1, 8, 8))
    assert masked[0, 0, :, 5:].all() and not masked[0, 0, :, :4].any() and (given == 1).all()


def test_blur_width_is_per_picture():
    frames = torch.rand(3, 3, 12, 15)
    sigma = torch.tensor([.2, 1.5, 7.])
    alone = torch.cat([gaussian_blur(f[None], s[None]) for f, s in zip(frames, sigma)])
    torch.testing.assert_close(gaussian_blur(frames, sigma), alone, rtol=0, atol=1e-6)    # zero taps add nothing
    torch.testing.assert_close(gaussian_blur(torch.ones(1, 1, 9, 9), sigma[:1]), torch.ones(1, 1, 9, 9), rtol=0, atol=1e-6)


@pytest.mark.parametrize('name', ELASTIC)
def test_view(name):
    frames = torch.rand(4, 3, 32, 40) * 2 - 1
    view = elastic_view(frames, ELASTIC[name], torch.Generator().manual_seed(5))
    again = elastic_view(frames, ELASTIC[name], torch.Generator().manual_seed(5))
    assert all(torch.equal(a, b) for a, b in zip(view, again))
    assert view.masked.dtype == torch.bool and view.motion.shape == (4, 2, 32, 40)
    assert all(torch.isfinite(part).all() for part in view) and view.given_image.abs().max() <= 1 + 1e-5


def test_corruption_share():
    frames = torch.zeros(64, 3, 32, 32)
    view = elastic_view(frames + 1, ElasticCfg(), torch.Generator().manual_seed(0))
    assert .4 < (view.given_image == 0).float().mean() < .65     # bends and zooms leave grey borders too
    assert .4 < view.masked.float().mean() < .7


@pytest.mark.parametrize('bad', [torch.zeros(3, 16, 16), torch.zeros(1, 3, 16, 16, dtype=torch.uint8), torch.zeros(1, 3, 6, 16)])
def test_refuses(bad):
    with pytest.raises(ValueError, match='elastic_view needs'): elastic_view(bad, ElasticCfg(), None)
