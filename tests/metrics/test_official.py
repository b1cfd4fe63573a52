"The published variants of PSNR and SSIM: closed forms, batches, horizons, and eight levels of noise and blur."
import math

import pytest
import torch
import torch.nn.functional as F

from ccvs.core.seed import torch_rng
from ccvs.metrics.image import psnr, ssim
from ccvs.metrics.pairs.official import (batch_means, ccvs_psnr, ccvs_ssim, group_spread, horizon_scores, ipoke_psnr,
                                         ipoke_ssim, running_mean, unit_frames, upscaled)

pytestmark = pytest.mark.usefixtures('one_thread')


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch_rng(seed)) * 2 - 1


def levels(kind, frame):
    "The frame and eight levels of damage, (9, 3, H, W)."
    if kind == 'noise': return frame + torch.linspace(0, 0.8, 9).view(-1, 1, 1, 1) * noise(*frame.shape, seed=7)
    steps = [frame[None]]
    for _ in range(8): steps.append(F.avg_pool2d(F.pad(steps[-1], (1, 1, 1, 1), mode='replicate'), 3, 1))
    return torch.cat(steps)


@pytest.mark.parametrize('kind', ['noise', 'blur'])
@pytest.mark.parametrize('score', [ccvs_psnr, ccvs_ssim, ipoke_psnr, ipoke_ssim])
def test_falls_with_every_level(score, kind):
    frame = F.interpolate(noise(1, 3, 8, 8), size=(24, 24), mode='bicubic')[0] * 0.5
    scores = torch.stack([score(x[None], frame[None]).mean() for x in levels(kind, frame)])
    assert scores[0] == scores.max() and scores[1:].diff().max() < 0


def test_ccvs_in_closed_form():
    real, fake = torch.full((2, 3, 9, 9), -0.5), torch.full((2, 3, 9, 9), 0.5)  # 1/4 and 3/4 in [0, 1]
    assert (ccvs_psnr(real, fake) + 10 * math.log10(0.25 + 1e-8)).abs().max() < 1e-9
    assert (ccvs_psnr(real, real) - 80).abs().max() < 1e-9
    c1 = 4e-4
    assert (ccvs_ssim(real, fake) - (2 * 3 / 16 + c1) / (10 / 16 + c1)).abs().max() < 1e-9  # no variance: first factor only


def test_range_two_is_kinder_and_psnr_hardly_changes():
    real, fake = noise(4, 3, 16, 16), noise(4, 3, 16, 16, seed=1)
    x, y = unit_frames(real), unit_frames(fake)
    assert (ccvs_ssim(real, fake) > ssim(x, y, 1)).all()
    torch.testing.assert_close(ccvs_psnr(real, fake), psnr(x, y, 1), rtol=0, atol=1e-5)  # 1e-8 against an error of a sixth


def test_bytes_and_floats_agree():
    real = torch.randint(0, 256, (2, 3, 12, 12), generator=torch_rng(2), dtype=torch.uint8)
    fake = real.flip(0)
    for score in (ccvs_psnr, ccvs_ssim):
        as_floats = score(*(x.double() / 127.5 - 1 for x in (real, fake)))
        torch.testing.assert_close(score(real, fake), as_floats, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('score', [ccvs_psnr, ccvs_ssim])
def test_same_score_in_any_batch_and_order(score):
    real, fake = noise(64, 3, 11, 13), noise(64, 3, 11, 13, seed=1)
    whole = score(real, fake)
    for size in (1, 7):
        assert torch.equal(torch.cat([score(real[i:i + size], fake[i:i + size]) for i in range(0, 64, size)]), whole)
    order = torch.randperm(64, generator=torch_rng(5))
    assert torch.equal(score(real[order], fake[order]), whole[order])


def test_batches_drop_the_remainder_and_average_twice():
    real, fake = noise(18, 2, 3, 8, 8), noise(18, 2, 3, 8, 8, seed=1)
    scores = ccvs_psnr(real, fake)
    assert batch_means(ccvs_psnr, real, fake) == scores[:16].mean()
    torch.testing.assert_close(batch_means(ccvs_psnr, real, fake, 4), scores[:16].view(4, 8).mean(1), rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match='complete batches of 16 pairs'): batch_means(ccvs_psnr, real[:15], fake[:15])
    with pytest.raises(ValueError, match='18 real and 17'): batch_means(ccvs_psnr, real, fake[:17])


def test_groups():
    assert group_spread(torch.tensor([1., 3, 5, 7, 100]), 2) == (4.0, 2.0)  # groups 2 and 6, divided by their number
    with pytest.raises(ValueError, match='16 batches, found 15'): group_spread(torch.zeros(15))


def test_upscaled_sizes_and_large_frames():
    sizes = {(20, 24): (161, 193), (24, 20): (193, 161), (64, 64): (161, 161), (161, 300): (161, 300), (256, 256): (256, 256)}
    for small, large in sizes.items(): assert upscaled(torch.zeros(2, 1, *small)).shape == (2, 1, *large)
    assert upscaled(torch.zeros(4, 5, 1, 20, 20)).shape == (4, 5, 1, 161, 161)


def test_horizons_score_enlarged_frames():
    real, fake = noise(2, 3, 3, 16, 16), noise(2, 3, 3, 16, 16, seed=1)
    found = horizon_scores(ccvs_ssim, real, fake, [2, 0], size=2)
    by_hand = [ccvs_ssim(upscaled(real[:, t].double()), upscaled(fake[:, t].double())).mean() for t in (2, 0)]
    torch.testing.assert_close(found, torch.stack(by_hand), rtol=1e-12, atol=1e-12)
    assert (found - ccvs_ssim(real, fake).mean(0)[[2, 0]]).abs().min() > 1e-3  # the enlargement is not for nothing


def test_ipoke_takes_its_range_from_the_batch():
    target, error = torch.zeros(1, 1, 12, 12), 0.1
    target[..., 0] = 0.5  # a range of 1/2
    assert abs(ipoke_psnr(target + error, target) - 20 * torch.log10(torch.tensor(5.))) < 1e-5
    pair = torch.cat([target, 2 * target])
    assert ipoke_psnr(pair + error, pair) > ipoke_psnr(target + error, target) + 6  # the range doubled
    assert abs(ipoke_ssim(target, target) - 1) < 1e-12
    with pytest.raises(ValueError, match='11x11'): ipoke_ssim(target[..., :10], target[..., :10])


def test_running_mean_weighs_calls_alike():
    pred, target = noise(5, 2, 3, 12, 12), noise(5, 2, 3, 12, 12, seed=1)
    calls = [ipoke_psnr(pred[i:i + 2], target[i:i + 2]) for i in (0, 2, 4)]
    assert abs(running_mean(ipoke_psnr, pred, target, 2) - torch.stack(calls).mean().item()) < 1e-12
    with pytest.raises(ValueError, match='at least one clip'): running_mean(ipoke_psnr, pred[:0], target[:0])


def test_other_types_are_refused():
    with pytest.raises(ValueError, match='uint8 or floats'): unit_frames(torch.zeros(3, dtype=torch.int32))
