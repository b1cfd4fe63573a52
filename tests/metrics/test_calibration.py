"Coverage, CRPS and branch odds: closed forms, no bias for few samples, and branches read off boards not learnt from."
import sys
from math import erf, exp, pi, sqrt
from unittest import mock

import numpy as np
import pytest

from ccvs.core.seed import rng
from ccvs.data.worlds import render
from ccvs.data.worlds.pegs import ROWS, bin_chances
from ccvs.metrics.control.calibration import (branch_score, coverage, crps, expected_variation, place_chances, possible_paths,
                                              read_branches, total_variation)

TRUE, DRAWS = rng('test', 0).normal(size=3000), rng('test', 1).normal(size=(3000, 39))
ERROR = 3 * sqrt(.25 / 3000)  # three standard deviations of a share, at worst


def redrawn(seed, draw, **more):
    "The same board and balls, but each ball decides anew at every peg."
    module, random = sys.modules['ccvs.data.worlds.pegs'], rng('redrawn', seed, draw)
    kept = module.drop

    def drop(used, chances, place):
        kept(used, chances, place)
        return kept(random, chances, place)
    with mock.patch.object(module, 'drop', drop): return render('pegs', seed, **more)


def gaussian_crps(mean, std, y):
    "Gneiting and Raftery 2007, equation 5."
    z = (y - mean) / std
    return std * (z * erf(z / sqrt(2)) + 2 * exp(-z * z / 2) / sqrt(2 * pi) - 1 / sqrt(pi))


def test_a_perfect_model_covers_what_it_promises():
    np.testing.assert_allclose(coverage(DRAWS, TRUE), [.5, .8, .95], atol=ERROR)


@pytest.mark.parametrize('count, level', [(3, .5), (9, .8), (19, .5), (39, .95)])
def test_coverage_has_no_bias_for_few_samples(count, level):
    np.testing.assert_allclose(coverage(rng('test', 2).normal(size=(3000, count)), TRUE, [level]), [level], atol=ERROR)


def test_wrong_spread_shows_at_every_level():
    held = np.array([coverage(DRAWS / (1 + level / 4), TRUE) for level in range(8)])
    assert (np.diff(held, axis=0) < 0).all()


def test_coverage_of_known_intervals():
    samples = np.arange(1., 40)[None].repeat(2, 0)
    assert coverage(samples, [1.1, 38.9]).tolist() == [0, 0, 1] and coverage(samples, [.9, 39.1]).tolist() == [0, 0, 0]
    assert coverage(samples, [10.1, 29.9]).tolist() == [1, 1, 1]


@pytest.mark.parametrize('y', [-3., 0., 1., 4.])
def test_crps_of_a_gaussian_in_closed_form(y):
    found = crps(1 + 2 * rng('test', 3).normal(size=(1, 100_000)), [y])[0]
    assert abs(found - gaussian_crps(1, 2, y)) < .03  # 5 * 2 / sqrt(100000)


@pytest.mark.parametrize('count', [2, 3, 10])
def test_crps_is_fair_for_few_samples(count):
    found = crps(rng('test', 4, count).normal(size=(40_000, count)), np.full(40_000, .5)).mean()
    assert abs(found - gaussian_crps(0, 1, .5)) < .02


def test_crps_equals_its_definition():
    samples, true = rng('test', 5).random((4, 7)), rng('test', 6).random(4)
    pairs = np.abs(samples[:, :, None] - samples[:, None]).sum((1, 2)) / (7 * 6)
    np.testing.assert_allclose(crps(samples, true), np.abs(samples - true[:, None]).mean(1) - pairs / 2, rtol=1e-12)
    np.testing.assert_allclose(crps([[3., 3.]], [5.]), [2.])  # a sure prediction gets its absolute error


@pytest.mark.parametrize('wrong', [lambda d: DRAWS + d, lambda d: DRAWS * (1 + d), lambda d: DRAWS / (1 + d)])
def test_crps_grows_with_every_error(wrong):
    assert (np.diff([crps(wrong(level * .4), TRUE).mean() for level in range(8)]) > 0).all()


@pytest.mark.parametrize('size', [1, 7, 64])
def test_same_in_any_batch_and_order(size):
    order = rng('test', 7).permutation(64)
    parts = [crps(DRAWS[order[i:i + size]], TRUE[order[i:i + size]]) for i in range(0, 64, size)]
    assert np.array_equal(np.concatenate(parts), crps(DRAWS[:64], TRUE[:64])[order])


def test_total_variation():
    np.testing.assert_allclose(total_variation([[.5, .5, 0], [1, 0, 0]], [.2, .5, .3]), [.3, .8])
    rows = [total_variation(np.array([.3 + level / 10, .7 - level / 10]), [.3, .7]) for level in range(8)]
    assert (np.diff(rows) > 0).all()


@pytest.mark.parametrize('samples', [1, 5, 40])
def test_expected_variation_is_what_perfect_samples_show(samples):
    odds = np.array([0, .05, .25, .7])
    shares = rng('test', 8, samples).multinomial(samples, odds, 20_000) / samples
    assert abs(expected_variation(odds, samples) - total_variation(shares, odds).mean()) < .005
    assert expected_variation([0., 1.], samples) == 0


def test_odds_are_those_of_the_world():
    chances = render('pegs', 5).extras['chances']
    for place, row in ((2, 0), (4, 0), (3, 1), (5, 3)):
        np.testing.assert_allclose(place_chances(chances, place, row, ROWS)[1::2], bin_chances(chances, place, row))


@pytest.mark.parametrize('frames', [4, 12, 24])
def test_the_way_taken_is_among_the_possible_ones(frames):
    for seed in range(6):
        truth = render('pegs', seed, frames, 32).extras
        for ball, branch, known in zip(truth['balls'], truth['branch'], truth['branch_frame']):
            ways, paths = possible_paths(ball, branch, known, 32)
            own = np.flatnonzero((ways == branch).all(1))
            assert len(own) == 1
            np.testing.assert_allclose(paths[own[0]], ball, atol=1e-6)


def test_other_ways_are_where_the_world_paints_them():
    clip, again = render('pegs', 103, 24), redrawn(103, 1, frames=24)
    for i in range(len(clip.extras['balls'])):
        ways, paths = possible_paths(*(clip.extras[k][i] for k in ('balls', 'branch', 'branch_frame')), 64)
        taken = (ways == again.extras['branch'][i]).all(1)
        np.testing.assert_allclose(paths[taken][0], again.extras['balls'][i], atol=1.5)  # the landing is off the middle of a bin


def test_branches_are_read_off_boards_not_learnt_from():
    right = []
    for seed in range(6):
        clip, again = render('pegs', 200 + seed, 24), redrawn(200 + seed, 1, frames=24)
        reached = again.extras['branch'] >= 0
        right += (read_branches(again.frames, clip.frames, clip.extras) == again.extras['branch'])[reached].tolist()
    assert np.mean(right) > .93


def test_real_clips_are_read_as_they_are():
    clip = render('pegs', 103, 24)
    assert np.array_equal(read_branches(clip.frames, clip.frames, clip.extras), clip.extras['branch'])


def test_branch_score_compares_with_exact_odds():
    truth = render('pegs', 103, 30, 32).extras
    fair = np.stack([redrawn(103, draw, frames=30, size=32).extras['branch'] for draw in range(24)])
    score = branch_score(fair, truth, 1, 32)
    np.testing.assert_allclose(score.true[:, 1::2], truth['bins'], atol=1e-12)  # nothing decided yet: the world's own odds
    np.testing.assert_allclose(score.found.sum(1), 1)
    assert (score.variation < score.expected + .3).all()
    known = branch_score(truth['branch'][None].repeat(3, 0), truth, 30, 32)  # all frames given: nothing is left to chance
    assert (known.variation == 0).all() and (known.expected == 0).all()


@pytest.mark.parametrize('call, words', [
    (lambda: coverage(DRAWS[:, :38], TRUE), 'at least 39'),
    (lambda: coverage(DRAWS, TRUE[:5]), r'\(N, S\)'),
    (lambda: crps(DRAWS[:, :1], TRUE), 'at least 2'),
    (lambda: total_variation([1, 2], [.5, .5]), 'divide counts'),
    (lambda: read_branches(np.zeros((4, 3, 8, 8)), np.zeros((5, 3, 8, 8)), {}), 'cut them alike'),
    (lambda: branch_score(np.zeros((2, 9, 5), int), render('pegs', 0, 8, 32).extras, 1, 32), 'read_branches'),
])
def test_errors_say_what_is_wrong(call, words):
    with pytest.raises(ValueError, match=words): call()
