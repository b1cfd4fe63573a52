"Keypoint accuracy: closed forms, the official variants, and more noise is always worse."
import numpy as np
import pytest

from ccvs.core.seed import rng
from ccvs.metrics.control.keypoints import correct_share, poked_errors, poked_mask, pose_curves, relative, without_outliers


def test_error_of_a_known_displacement():
    true = rng('keypoints', 0).random((5, 16, 2)) * 256
    poked = rng('keypoints', 1).random((5, 16)) < .3
    poked[:, 0] = True
    found = poked_errors(true + [3, 4], true, poked, 256)
    np.testing.assert_allclose(found.squared, (5 / 256)**2, rtol=1e-9)  # only rounding of doubles
    np.testing.assert_allclose(found.mse, found.squared / 2, rtol=1e-12)


def test_only_poked_keypoints_count():
    true = np.zeros((2, 4, 2))
    found = true.copy()
    found[:, 1:] = 100
    mask = poked_mask([[0, -1], [0, 2]], 4)
    assert mask.tolist() == [[True, False, False, False], [True, False, True, False]]
    np.testing.assert_allclose(poked_errors(found, true, mask, 100).squared, [0, 1])  # (0 + 2) / 2 relative to the side


def test_resolution_does_not_matter():
    true, found = rng('keypoints', 2).random((2, 3, 16, 2)) * 64
    poked = np.ones((3, 16), bool)
    np.testing.assert_allclose(poked_errors(found, true, poked, 64).squared, poked_errors(4 * found, 4 * true, poked, 256).squared, rtol=1e-12)


def test_nearest_sample_is_one_future():
    true = np.zeros((1, 2, 1, 2))
    found = np.zeros((1, 2, 2, 1, 2))
    found[0, 0, :, 0, 0] = 0, 10  # perfect, then far off
    found[0, 1, :, 0, 0] = 4, 4   # better over the whole clip
    curves = pose_curves(found, true, 10)
    np.testing.assert_allclose(curves.nearest, [[.08, .08]])  # not frame by frame, which would give 0 first
    np.testing.assert_allclose(curves.mean, [[.04, .29]])
    np.testing.assert_allclose(curves.std, [[.04, .21]])


def test_more_noise_is_worse_at_every_level():
    true = rng('keypoints', 3).random((20, 17, 2)) * 64
    noise = rng('keypoints', 4).normal(size=true.shape)
    poked = np.ones((20, 17), bool)
    errors = [poked_errors(true + level * noise, true, poked, 64).squared.mean() for level in range(8)]
    shares = [correct_share(true + level * noise, true, [3])[0] for level in range(8)]
    curves = [pose_curves((true + level * noise)[None, None], true[None], 64).mean.mean() for level in range(8)]
    assert (np.diff(errors) > 0).all() and (np.diff(curves) > 0).all()
    assert (np.diff(shares) <= 0).all() and shares[-1] < .5


@pytest.mark.parametrize('size', [1, 7, 64])
def test_same_in_any_batch_and_order(size):
    found, true = rng('keypoints', 5).random((2, 64, 16, 2)) * 64
    poked = np.ones((64, 16), bool)
    order = rng('keypoints', 6).permutation(64)
    whole = poked_errors(found, true, poked, 64).squared
    parts = [poked_errors(found[order[i:i + size]], true[order[i:i + size]], poked[:size][:len(order[i:i + size])], 64).squared for i in range(0, 64, size)]
    assert np.array_equal(np.concatenate(parts), whole[order])


def test_outliers_are_left_out_as_in_the_official_plot():
    values = np.append(np.linspace(0, 1, 50), 100)
    assert without_outliers(values).max() <= 1 and len(without_outliers(values)) == 50
    assert len(without_outliers(values, 10)) == 51


@pytest.mark.parametrize('call, words', [
    (lambda: poked_errors(np.zeros((2, 3, 2)), np.zeros((2, 4, 2)), np.ones((2, 3)), 64), r'\(N, K, 2\)'),
    (lambda: poked_errors(np.zeros((2, 3, 2)), np.zeros((2, 3, 2)), np.array([[1, 0, 0], [0, 0, 0]]), 64), r'items \[1\]'),
    (lambda: poked_mask([[16]], 16), 'from 0 to 15'),
    (lambda: relative([[1, 1]], 0), 'positive'),
    (lambda: pose_curves(np.zeros((1, 2, 3, 4, 2)), np.zeros((1, 2, 4, 2)), 64), 'samples'),
    (lambda: correct_share(np.zeros((3, 2)), np.zeros((3, 2)), [1], np.zeros(3)), 'visible'),
])
def test_errors_say_what_is_wrong(call, words):
    with pytest.raises(ValueError, match=words): call()
