"""The pegs: the odds told are the odds met, they can be seen, and nothing tells the way before a peg is met."""
import numpy as np
import pytest

from ccvs.core.seed import rng
from ccvs.data.worlds.pegs import (BALL, CHANCES, PEG, PLACES, ROWS, bin_chances, drop, follow, legs, make_chances,
                                   peg_colour, pegs)


def places_of(place: int, branch: np.ndarray) -> np.ndarray:
    return place + np.append(0, np.cumsum(2 * branch - 1))


@pytest.fixture(scope='module')
def drops():
    "Probability met and way taken, of 2,000 balls through boards of their own."
    met, taken, ends, odds = [], [], [], []
    for seed in range(2000):
        random = rng('test', seed)
        chances = make_chances(random)
        place = 2 * (1 + seed % 3)
        branch = drop(random, chances, place)
        places = places_of(place, branch)
        met += list(chances[np.arange(ROWS), places[:-1]])
        taken += list(branch)
        ends.append(places[-1] // 2), odds.append(bin_chances(chances, place))
    return np.array(met), np.array(taken), np.array(ends), np.array(odds)


def test_branches_are_as_frequent_as_told(drops):
    met, taken, _, _ = drops
    for p in CHANCES:
        count = (met == p).sum()
        assert count > 1000 and abs(taken[met == p].mean() - p) < 4 * np.sqrt(p * (1 - p) / count)
    assert taken[met == 1].all() and not taken[met == 0].any() and (met == met).all()


def test_bins_are_as_frequent_as_told(drops):
    "Summed over boards, and where the odds of a bin are high or low."
    _, _, ends, odds = drops
    hit = ends[:, None] == np.arange(4)
    for low, high in ((0, .1), (.1, .3), (.3, .6), (.6, 1.01)):
        at = (odds >= low) & (odds < high)
        sigma = np.sqrt((odds[at] * (1 - odds[at])).sum())
        assert at.sum() > 50 and abs(hit[at].sum() - odds[at].sum()) < 4 * sigma


def test_bin_chances_are_the_sum_over_all_ways():
    for seed in range(5):
        chances = make_chances(rng('ways', seed))
        for place in range(0, PLACES, 2):
            total = np.zeros(4)
            for way in range(2 ** ROWS):
                branch = np.array([way >> row & 1 for row in range(ROWS)])
                places, p = places_of(place, branch), 1.
                for row in range(ROWS):
                    if not 0 <= places[row] < PLACES: p = 0.; break
                    p *= chances[row, places[row]] if branch[row] else 1 - chances[row, places[row]]
                if p: total[places[-1] // 2] += p
            np.testing.assert_allclose(bin_chances(chances, place), total, rtol=0, atol=1e-14)  # order of sums
    assert (bin_chances(chances, 5, ROWS) == [0, 0, 1, 0]).all()


def test_the_path_does_not_tell_the_way_before_the_peg():
    "Two balls that part at a row are in one place up to the frame told, and apart by pixels two frames later."
    random = rng('fork')
    for row in range(ROWS):
        branch = np.array([1, 0, 1, 0, 1])
        other = branch.copy()
        other[row:] = 1 - other[row:]
        start, hop = 4 * random.random(), 2.5
        one, two = (legs(places_of(4, b), start, hop, .05) for b in (branch, other))
        told = int(np.floor(one[2 + row, 0]))
        first, second = follow(one, told + 4), follow(two, told + 4)
        assert (first[:told + 1] == second[:told + 1]).all()
        assert np.abs(first[told + 2] - second[told + 2]).max() > .03


def test_what_is_reached_is_told():
    cut = 0
    for seed in range(60):
        extras = pegs(seed, frames=16, size=32).extras
        reached = extras['branch'] >= 0
        assert (reached == (extras['branch_frame'] >= 0)).all() and (reached == np.isfinite(extras['probability'])).all()
        assert (extras['branch_frame'] <= 14).all() and extras['bins'].shape == (len(reached), 4)
        np.testing.assert_allclose(extras['bins'].sum(1), 1, rtol=0, atol=1e-12)
        cut += (~reached).any()
        for ball, row in zip(*np.nonzero(reached)):  # the ball is seen to go where the branch says
            frame = extras['branch_frame'][ball, row]
            way = extras['balls'][ball, frame + 1, 0] - extras['balls'][ball, frame, 0]
            before = extras['branch'][ball, row - 1] if row else extras['branch'][ball, row]
            if before == extras['branch'][ball, row]: assert (way > 0) == bool(extras['branch'][ball, row])
    assert 0 < cut < 60


def test_probability_can_be_read_from_the_picture():
    "At the first frame the colour at each peg, freed from the light's tint, names its probability."
    levels = np.array([0., *CHANCES, 1.])
    names = np.stack([peg_colour(p) for p in levels])
    for seed in range(6):
        clip = pegs(seed, frames=1, size=128)
        chances = clip.extras['chances']
        seen, told = [], []
        for row, place in zip(*np.nonzero(np.isfinite(chances))):
            x, y = .5 + .098 * (place - 4), .27 + .125 * row
            seen.append(clip.frames[0, :, int(y * 128), int(x * 128)] / 255), told.append(chances[row, place])
        seen, told = np.array(seen), np.array(told)
        light = seen[told == 1].mean(0) / names[-1]
        light[2] = seen[told == 0].mean(0)[2] / names[0, 2]  # the edge pegs are orange and blue by rule
        guess = levels[np.abs(seen[:, None] / light - names).sum(2).argmin(1)]
        assert (guess == told).mean() > .95


def test_balls_of_one_bin_lie_apart():
    for seed in range(40):
        balls = pegs(seed, frames=40, size=64).extras['balls'][:, -1] / 64
        assert ((balls[:, 1] + .5 / 64) > .9).all()
        apart = np.sqrt(((balls[:, None] - balls[None]) ** 2).sum(-1)) + np.eye(len(balls))
        assert apart.min() > .045
    assert BALL > PEG[1]
