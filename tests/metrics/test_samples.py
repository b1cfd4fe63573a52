"Mean of n, best of n and what n buys."
from itertools import combinations

import pytest
import torch

from ccvs.core.seed import torch_rng
from ccvs.metrics.pairs.official import ccvs_psnr, ccvs_ssim
from ccvs.metrics.pairs.samples import PairScore, expected_best, sample_curves, sample_scores, sample_table


def clips(seed, *shape):
    return torch.rand(*shape, 3, 8, 8, generator=torch_rng(seed)) * 2 - 1


def test_every_frame_of_every_sample():
    real, samples = clips(0, 2, 4), clips(1, 2, 3, 4)
    values = sample_scores(ccvs_psnr, real, samples)
    assert values.shape == (2, 3, 4) and values[1, 2, 3] == ccvs_psnr(real[1, 3], samples[1, 2, 3])
    for wrong in (samples[0], samples[:1], samples[:, :, :3], samples[:, :0]):
        with pytest.raises(ValueError, match='one B, T and size'): sample_scores(ccvs_psnr, real, wrong)


def test_best_is_one_sample_over_the_whole_clip():
    values = torch.tensor([[[9., 0, 0], [4, 4, 4], [0, 5, 0]]])  # the middle one has the best mean
    up = sample_curves(values, True)
    assert up.best.tolist() == [[4, 4, 4]] and up.best_each_frame.tolist() == [[9, 5, 4]]
    down = sample_curves(values, False)
    assert down.best.tolist() == [[0, 5, 0]] and down.best_each_frame.tolist() == [[0, 0, 0]]
    torch.testing.assert_close(up.mean, values.mean(1), rtol=0, atol=0)
    assert torch.equal(up.mean, down.mean)


@pytest.mark.parametrize('higher', [True, False])
def test_expected_best_is_the_mean_over_subsets(higher):
    values = torch.rand(3, 6, generator=torch_rng(2), dtype=torch.float64)
    best = torch.amax if higher else torch.amin
    for n in range(1, 7):
        by_hand = torch.stack([best(values[:, list(c)], 1) for c in combinations(range(6), n)]).mean(0)
        torch.testing.assert_close(expected_best(values, higher)[:, n - 1], by_hand, rtol=1e-12, atol=1e-12)


def test_table():
    real, samples = clips(0, 2, 4), clips(1, 2, 3, 4)
    table = sample_table(dict(psnr=PairScore(ccvs_psnr, True), error=PairScore(lambda a, b: (a - b).abs().mean((-3, -2, -1)), False)),
                         real, samples)
    curves = sample_curves(sample_scores(ccvs_psnr, real, samples), True)
    assert table.loc['psnr', 'best_of_n'] == curves.best.mean().item() > table.loc['psnr', 'mean_of_n']
    assert table.loc['error', 'best_of_n'] < table.loc['error', 'mean_of_n'] and table['n'].tolist() == [3, 3]
    assert table['better'].tolist() == ['higher', 'lower']


def test_samples_in_another_order_give_the_same_curves():
    real, samples = clips(0, 2, 4), clips(1, 2, 5, 4)
    one = sample_curves(sample_scores(ccvs_ssim, real, samples), True)
    other = sample_curves(sample_scores(ccvs_ssim, real, samples[:, [3, 1, 4, 0, 2]]), True)
    for a, b in zip(one, other): torch.testing.assert_close(a, b, rtol=1e-12, atol=0)
