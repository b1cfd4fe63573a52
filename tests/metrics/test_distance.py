"Fréchet and kernel distances: closed forms, the law of the bias, invariances, streaming, spread."
import math
from time import process_time

import numpy as np
import pytest
import scipy.linalg
import torch

from ccvs.core.seed import torch_rng
from ccvs.metrics.frechet import distance
from ccvs.metrics.frechet.distance import (centred_interval, extrapolated, frechet, frechet_distance, gaussian, kernel_distance, merged,
                                           resampled_distances, stream_gaussian)


def normal(*shape, key=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch_rng(key, 'normal'))


def exact(n, spread, mean=0., key=0):
    "n clips whose sample covariance (n - 1) is exactly spread.T @ spread, and whose mean is exactly `mean`."
    x = normal(n, len(spread), key=key)
    white = torch.linalg.qr(x - x.mean(0)).Q * math.sqrt(n - 1)
    return white @ spread + mean


def rotation(D, key=0):
    return torch.linalg.qr(normal(D, D, key=key)).Q


def by_matrix_root(a, b):
    "The textbook formula, for well-conditioned covariances only."
    s, t = np.cov(a.numpy(), rowvar=False), np.cov(b.numpy(), rowvar=False)
    return float((a.mean(0) - b.mean(0)).square().sum()) + np.trace(s + t - 2 * scipy.linalg.sqrtm(s @ t).real)


@pytest.mark.parametrize('D', [1, 8, 400])
def test_diagonal_covariances(D):
    s, t = torch.rand(2, D, dtype=torch.float64, generator=torch_rng(D)) + .1
    found = frechet_distance(exact(2 * D + 2, s.diag(), 1., 1), exact(3 * D + 2, t.diag(), -1., 2))
    assert math.isclose(found, 4 * D + (s - t).square().sum().item(), rel_tol=1e-12)   # double precision, a few hundred additions


def test_rotated_covariances():
    "In two dimensions tr (ST)^1/2 = (tr ST + 2 sqrt(det ST))^1/2; four planes that turn by different angles."
    spreads, others, expected = [], [], 0.
    for i in range(4):
        s, angle = torch.diag(torch.tensor([1. + i, .3], dtype=torch.float64)), .4 * (i + 1)
        turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
        spreads.append(s)
        others.append(s @ turn)
        S, T = s.T @ s, others[-1].T @ others[-1]
        expected += (S.trace() + T.trace() - 2 * ((S @ T).trace() + 2 * torch.det(S @ T).sqrt()).sqrt()).item()
    found = frechet_distance(exact(50, torch.block_diag(*spreads), key=1), exact(70, torch.block_diag(*others), key=2))
    assert math.isclose(found, expected, rel_tol=1e-12)


def test_mean_shift_and_scaled_copy():
    x = normal(300, 20)
    shift = normal(20, key=1)
    assert math.isclose(frechet_distance(x, x + shift), shift.square().sum().item(), rel_tol=1e-11)   # what is left of two equal traces
    scaled = (1 - 3) ** 2 * (torch.cov(x.T).trace() + x.mean(0).square().sum()).item()
    assert math.isclose(frechet_distance(x, 3 * x), scaled, rel_tol=1e-12)


@pytest.mark.parametrize('n, m', [(5, 5), (5, 40), (40, 5), (2, 3)])
def test_fewer_clips_than_features(n, m):
    "Ten numbers per clip, laid out in four hundred features by a rotation: the distance is that of the ten."
    a, b, frame = normal(n, 10), normal(m, 10, key=1) * 2 + 1, torch.linalg.qr(normal(400, 10, key=2)).Q.T
    assert math.isclose(frechet_distance(a @ frame, b @ frame), frechet_distance(a, b), rel_tol=1e-11)
    assert math.isclose(frechet_distance(a @ frame, 2 * a @ frame), torch.cov(a.T).trace().item() + a.mean(0).square().sum().item(), rel_tol=1e-11)


@pytest.mark.parametrize('n', [5, 400, 1000])
def test_a_set_against_itself(n):
    x = normal(n, 400) * torch.logspace(-6, 2, 400, dtype=torch.float64)
    assert 0 <= frechet_distance(x, x) < 1e-9 * torch.cov(x.T).trace().item()
    assert 0 <= frechet_distance(x, x[torch.randperm(n, generator=torch_rng(0))]) < 1e-9 * torch.cov(x.T).trace().item()


def test_agrees_with_the_matrix_root_where_that_works():
    a, b = normal(400, 30) @ normal(30, 30, key=1), normal(300, 30, key=2) @ normal(30, 30, key=3) + .5
    assert math.isclose(frechet_distance(a, b), by_matrix_root(a, b), rel_tol=1e-9)     # sqrtm is good to about 1e-10


def test_divisors():
    a, b = normal(20, 4), normal(30, 4, key=1) * 2
    scale = lambda x: x.mean(0) + (x - x.mean(0)) * math.sqrt((len(x) - 1) / len(x))
    assert math.isclose(frechet_distance(a, b, (0., 0.)), frechet_distance(scale(a), scale(b)), rel_tol=1e-12)
    assert math.isclose(frechet_distance(a, b, (.01, 1.)), frechet_distance(a.repeat(100, 1), b), rel_tol=1e-12)   # every clip a hundred times


def test_bias_falls_as_one_over_n():
    "n x distance of two samples of one normal distribution is 2D + D(D+1)/2 for large n."
    D, law = 10, 75
    for n in (400, 1600):
        found = np.mean([n * frechet_distance(*torch.randn(2, n, D, dtype=torch.float64, generator=torch_rng(n, i))) for i in range(30)])
        assert abs(found / law - 1) < .1, (n, found)    # 30 pairs: standard error about 3 %


def test_invariances():
    a, b, turn, shift = normal(60, 12), normal(50, 12, key=1) * 2 + 1, rotation(12, 2), normal(12, key=3)
    value = frechet_distance(a, b)
    assert math.isclose(frechet_distance(b, a), value, rel_tol=1e-12)
    assert math.isclose(frechet_distance(a @ turn + shift, b @ turn + shift), value, rel_tol=1e-12)
    assert math.isclose(frechet_distance(3 * a, 3 * b), 9 * value, rel_tol=1e-12)
    assert math.isclose(frechet_distance(a.flip(0), b.flip(0)), value, rel_tol=1e-12)
    wide = torch.cat([a, torch.zeros(60, 5)], 1), torch.cat([b, torch.zeros(50, 5)], 1)       # dead features change nothing
    assert math.isclose(frechet_distance(*wide), value, rel_tol=1e-12)


def test_float32_features():
    a, b = normal(500, 60) * 5 + 100, normal(400, 60, key=1) * 5 + 101
    assert math.isclose(frechet_distance(a.float(), b.float()), frechet_distance(a, b), rel_tol=1e-5)   # 100 is stored to 4e-6
    assert math.isclose(frechet_distance(a.float(), b.float()), frechet_distance(a.float().double(), b.float().double()), rel_tol=1e-15)


@pytest.mark.parametrize('N, D', [(300, 20), (30, 200)])
@pytest.mark.parametrize('size', [1, 7, 64, 1000])
def test_streaming_equals_one_shot(N, D, size):
    x, other = normal(N, D) + 50, gaussian(normal(N, D, key=1))
    streamed = stream_gaussian(x.split(size))
    assert streamed.count == N and len(streamed.rows) <= max(N, 2 * D)
    assert math.isclose(frechet(streamed, other), frechet(gaussian(x), other), rel_tol=1e-12)


def test_streaming_stays_small():
    g = stream_gaussian(normal(16, 8, key=i) for i in range(50))
    assert g.count == 800 and len(g.rows) <= 16


def test_counts_are_copies():
    x, times = normal(6, 4), torch.tensor([2, 0, 1, 3, 1, 1])
    a, b = gaussian(x, times), gaussian(x.repeat_interleave(times, 0))
    assert a.count == b.count == 8
    torch.testing.assert_close(a.mean, b.mean, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(a.rows.T @ a.rows, b.rows.T @ b.rows, rtol=1e-13, atol=1e-13)


def test_extrapolation_is_nearer_to_the_truth():
    "True distance 1; averaged over draws the line removes nearly all of the bias."
    measured, extended = [], []
    for i in range(8):
        a, b = torch.randn(2, 500, 12, dtype=torch.float64, generator=torch_rng(9, i))
        b[:, 0] += 1
        found = extrapolated(a, b)
        assert found.distances[0] == frechet_distance(a, b) and found.parts == (1, 2, 3, 4)
        measured.append(found.distances[0] - 1)
        extended.append(found.value - 1)
    assert np.mean(measured) > .15 and abs(np.mean(extended)) < .06    # law: 102 / 500 = 0.2; standard error 0.03


def test_extrapolation_doubts_few_clips():
    many, few = [extrapolated(*torch.randn(2, n, 40, dtype=torch.float64, generator=torch_rng(n))) for n in (1600, 40)]
    assert many.doubt < .1 < few.doubt


def test_extrapolation_and_resampling_repeat():
    a, b = normal(40, 5), normal(50, 5, key=1)
    assert extrapolated(a, b, 3) == extrapolated(a, b, 3) != extrapolated(a, b, 4)
    assert np.array_equal(resampled_distances(a, b, 3, 5), resampled_distances(a, b, 3, 5))
    assert not np.array_equal(resampled_distances(a, b, 3, 5), resampled_distances(a, b, 4, 5))


def test_interval_covers_fresh_values():
    "The width of the interval is that of fresh experiments."
    def pair(i):
        a, b = torch.randn(2, 200, 6, dtype=torch.float64, generator=torch_rng(11, i))
        return a, b + torch.tensor([1., 0, 0, 0, 0, 0])
    values = [frechet_distance(*pair(i)) for i in range(60)]
    low, high = centred_interval(values[0], resampled_distances(*pair(0)))
    assert low < values[0] < high
    assert .6 < (high - low) / (2 * 1.96 * np.std(values)) < 1.7    # 60 values and 100 resamples: each good to some 10 %


def test_interval_is_put_around_the_value():
    "Resampled sets are all further apart; only their spread counts."
    low, high = centred_interval(1., np.linspace(2.9, 3.1, 101))
    assert math.isclose(low, .905, rel_tol=1e-9) and math.isclose(high, 1.095, rel_tol=1e-9)
    assert centred_interval(.05, np.linspace(2.9, 3.1, 101))[0] == 0


def test_pairs_stay_together():
    "Generated clips that copy the real ones: the distance is 0 however they are drawn or cut."
    x = normal(40, 5)
    assert resampled_distances(x, x, resamples=4).max() < 1e-9
    assert max(extrapolated(x, x).distances) < 1e-9


def test_kernel_distance_against_loops():
    a, b = normal(5, 3), normal(4, 3, key=1) + .5
    k = lambda x, y: float(x @ y / 3 + 1) ** 3
    among = lambda s: np.mean([k(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j])
    expected = among(a) + among(b) - 2 * np.mean([k(x, y) for x in a for y in b])
    for block in (1, 3, 100):
        assert math.isclose(kernel_distance(a, b, block), expected, rel_tol=1e-11)


def test_kernel_distance_has_no_bias():
    for n in (10, 60):
        found = [kernel_distance(*torch.randn(2, n, 6, dtype=torch.float64, generator=torch_rng(n, i))) for i in range(200)]
        assert abs(np.mean(found)) < 4 * np.std(found) / math.sqrt(200)
    assert kernel_distance(normal(60, 6), normal(60, 6, key=1) * 1.5) > .1


def test_what_it_refuses():
    x = normal(5, 3)
    for wrong in (lambda: frechet_distance(x[:1], x), lambda: frechet_distance(x, x[:, :2]), lambda: gaussian(x[0]), lambda: gaussian(x[:0]), lambda: gaussian(x / 0),
                  lambda: merged(gaussian(x), gaussian(x[:, :2])), lambda: kernel_distance(x[:1], x), lambda: kernel_distance(x, x[:, :2]), lambda: extrapolated(x, x)):
        with pytest.raises(ValueError): wrong()
    with pytest.raises(TypeError): stream_gaussian([])


def test_speed_of_a_published_measurement():
    "2 x 2,048 clips of 400 features in less than 3 s on two cores; here one core's time, so that a busy machine does not matter."
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        real, fake = torch.randn(2, 2048, 400, generator=torch_rng(0))
        start = process_time()
        frechet_distance(real, fake)
        assert process_time() - start < 3
    finally: torch.set_num_threads(threads)


def test_never_forms_a_matrix_root(monkeypatch):
    "Few clips: nothing larger than clips x clips is decomposed."
    sizes, svdvals = [], torch.linalg.svdvals
    monkeypatch.setattr(distance.torch.linalg, 'svdvals', lambda x: sizes.append(tuple(x.shape)) or svdvals(x))
    frechet_distance(normal(7, 400), normal(9, 400, key=1))
    assert sizes == [(7, 9)]
