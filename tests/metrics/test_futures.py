"The futures protocol: each curve against its definition written as loops, merging, intervals, verdicts."
import json

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from ccvs.core.seed import rng, torch_rng
from ccvs.metrics.futures import CONTESTS, FutureCurves, FutureScores, bootstrap, curve_lines, diversity, future_curves, summary

B, S, T, G = 3, 4, 5, 2


def clips(seed=0, size=9):
    g = torch_rng(seed, 'clips')
    real, given = torch.rand(B, T, 3, size, size, generator=g), torch.rand(B, G, 3, size, size, generator=g)
    samples = (real[:, None] + 0.3 * torch.randn(B, S, T, 3, size, size, generator=g)).clamp(0, 1)
    return tuple((x * 255).round().to(torch.uint8) for x in (real, samples, given))


def by_hand(real, samples, given):
    "The definitions as plain loops over numpy arrays."
    real, samples, given = (x.numpy().astype(np.float64) / 255 for x in (real, samples, given))
    decibels = lambda a, b: min(80.0, -10 * np.log10(max(((a - b)**2).mean(), 1e-30)))
    alike = lambda a, b: structural_similarity(a, b, channel_axis=0, data_range=1)
    out = {name: np.zeros((B, T)) for name in FutureCurves._fields}
    for b in range(B):
        each = np.array([[alike(samples[b, s, t], real[b, t]) for t in range(T)] for s in range(S)])
        best = each.mean(1).argmax()
        for t in range(T):
            r, last, average = real[b, t], given[b, -1], given[b].mean(0)
            out['mean_psnr'][b, t] = decibels(samples[b, :, t].mean(0), r)
            out['copy_psnr'][b, t], out['given_psnr'][b, t] = decibels(last, r), decibels(average, r)
            out['best_ssim'][b, t], out['max_ssim'][b, t], out['sample_ssim'][b, t] = each[best, t], each[:, t].max(), each[:, t].mean()
            out['copy_ssim'][b, t], out['given_ssim'][b, t] = alike(last, r), alike(average, r)
            gaps = [abs(samples[b, i, t] - samples[b, j, t]).mean() for i in range(S) for j in range(i)]
            out['diversity'][b, t] = 255 * np.mean(gaps)
    return out


def test_every_curve_is_its_definition():
    found = future_curves(*clips())._asdict()
    for name, expected in by_hand(*clips()).items():
        # frames pass through float32 on their way to [0, 1]: 1e-7 relative, at most 1e-4 dB or grey levels
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-5, err_msg=name)


def test_bytes_and_floats_agree():
    floats = [x.float() / 127.5 - 1 for x in clips()]
    for a, b in zip(future_curves(*clips()), future_curves(*floats)): np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    wild = [x * 1.5 for x in floats]
    for a, b in zip(future_curves(*wild), future_curves(*(x.clamp(-1, 1) for x in wild))): np.testing.assert_array_equal(a, b)


def test_identical_frames_meet_the_ceiling():
    real, samples, given = clips()
    given[:, -1] = real[:, 0]
    scores = FutureScores()
    found = scores.add(real, real[:, None].repeat(1, S, 1, 1, 1, 1), given)
    assert (found.mean_psnr == 80).all() and (found.copy_psnr[:, 0] == 80).all() and (found.copy_psnr[:, 1:] < 80).all()
    np.testing.assert_allclose(found.best_ssim, 1, atol=1e-12)
    result = summary(scores, resamples=10)
    assert result['copy_at_ceiling'] == 1 / T and result['futures_differ_all_horizons'] is False
    assert result['mean_beats_copy_psnr_all_horizons'] is False  # a draw is no win


def test_diversity():
    assert diversity(torch.zeros(1, 1, 2, 3, 8, 8)).tolist() == [[0, 0]]
    x = torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1, 1, 1).expand(1, 2, 1, 3, 8, 8)
    assert diversity(x).item() == 255
    with pytest.raises(ValueError, match='uint8 or floats'): diversity(x.long())


def test_merging_two_is_one():
    parts = [clips(seed) for seed in range(4)]
    one, left, right = FutureScores(), FutureScores(), FutureScores()
    for i, part in enumerate(parts):
        one.add(*part)
        (left if i < 2 else right).add(*part)
    both = left.merge(right)
    assert len(both) == len(one) == 4 * B and len(left) == len(right) == 2 * B
    for a, b in zip(both.curves(), one.curves()): np.testing.assert_array_equal(a, b)
    assert summary(both, resamples=50) == summary(one, resamples=50)
    assert len(FutureScores().merge(one)) == len(one.merge(FutureScores())) == 4 * B


def test_batch_size_does_not_matter():
    real, samples, given = clips()
    whole, single = FutureScores(), FutureScores()
    whole.add(real, samples, given)
    for b in range(B): single.add(real[b:b + 1], samples[b:b + 1], given[b:b + 1])
    for a, b in zip(whole.curves(), single.curves()): np.testing.assert_allclose(a, b, rtol=1e-7)  # float32 means of samples


def test_collections_refuse_a_mixture():
    real, samples, given = clips()
    scores = FutureScores()
    scores.add(real, samples, given)
    with pytest.raises(ValueError, match='measure them apart'): scores.add(real, samples[:, :2], given)
    with pytest.raises(ValueError, match='measure them apart'): scores.add(real[:, :2], samples[:, :, :2], given)
    assert len(scores) == B
    with pytest.raises(ValueError, match='no clips'): FutureScores().curves()


@pytest.mark.parametrize('wrong', [
    lambda r, s, g: (r[0], s, g), lambda r, s, g: (r, s[:, :, :2], g), lambda r, s, g: (r, s, g[..., :8]), lambda r, s, g: (r, s[:2], g),
    lambda r, s, g: (r, s[:, :0], g), lambda r, s, g: (r, s, g[:, :0]),
])
def test_shapes_that_are_refused(wrong):
    with pytest.raises(ValueError, match='expected real|at least one'): future_curves(*wrong(*clips()))


def test_interval_of_normal_numbers():
    values = rng(0, 'normal').normal(3, 2, (400, 2))
    mean, low, high = bootstrap(values, resamples=2000)
    np.testing.assert_allclose(mean, values.mean(0))
    half = 1.96 * values.std(0) / 20
    np.testing.assert_allclose((high - low) / 2, half, rtol=0.08)  # 2,000 draws know a quantile to a few percent
    assert (bootstrap(values) == bootstrap(values)).all() and not (bootstrap(values, 0) == bootstrap(values, 1)).all()
    one = bootstrap(np.array([5.0]))
    assert one.tolist() == [5, 5, 5]
    with pytest.raises(ValueError, match='at least one clip'): bootstrap(np.zeros((0, 3)))


def test_interval_covers_the_truth():
    inside = 0
    for i in range(200):
        _, low, high = bootstrap(rng(i, 'cover').normal(0, 1, 60), resamples=300)
        inside += low <= 0 <= high
    assert 180 <= inside <= 199  # 95 % of 200 is 190, give or take three standard deviations


def test_summary_is_plain_and_its_verdicts_follow_the_numbers():
    scores = FutureScores()
    for seed in range(3): scores.add(*clips(seed))
    result = summary(scores, resamples=100)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert (result['clips'], result['samples'], result['horizons']) == (3 * B, S, T)
    for name, (ours, theirs) in CONTESTS.items():
        gap = np.array(result['curves'][ours]['mean']) - np.array(result['curves'][theirs]['mean'])
        np.testing.assert_allclose(result['differences'][name]['mean'], gap, atol=1e-12)
        assert result[f'{name}_all_horizons'] is True and result[f'{name}_surely'] is True  # noise on the truth against unrelated frames
    entry = result['curves']['best_ssim']
    assert abs(entry['overall']['mean'] - np.mean(entry['mean'])) < 1e-12


def test_one_lost_horizon_is_a_lost_verdict():
    real, samples, given = clips()
    given[:, -1] = real[:, 2]
    scores = FutureScores()
    scores.add(real, samples, given)
    result = summary(scores, resamples=50)
    assert not result['mean_beats_copy_psnr_all_horizons'] and not result['best_beats_copy_ssim_surely']
    assert result['best_beats_given_ssim_all_horizons']


def test_lines_for_the_plot():
    scores = FutureScores()
    scores.add(*clips())
    lines = curve_lines(summary(scores, resamples=20), dict(copy_psnr='copy'))
    assert list(lines) == ['copy'] and lines['copy'][0] == [1, 2, 3, 4, 5] and len(lines['copy']) == 4
    with pytest.raises(KeyError): curve_lines(summary(scores, resamples=20), dict(no='x'))
