"Points are found again in frames that nobody knows anything about: measured on rendered clips that were not learnt from."
import numpy as np
import pytest
import torch

from ccvs.core.seed import rng
from ccvs.data.worlds import render
from ccvs.metrics.control.finding import TURNS, best_path, evidence, find_path, learn_look, sample_at, unit_frames


@pytest.fixture(scope='module')
def clip():
    return render('pusher', 3)


@pytest.fixture(scope='module')
def look(clip):
    return learn_look(clip.frames, clip.extras['arm'], 7, TURNS)


def distance(found, true):
    return np.linalg.norm(found - true, axis=1)


def test_colours_between_pixels():
    ramp = np.arange(12.).reshape(1, 1, 3, 4)
    assert sample_at(ramp, np.array([[[0, 0], [1.5, 0], [1.5, 1.25], [9, 9]]])).tolist() == [[[0, 1.5, 6.5, 11]]]


def test_all_kinds_of_clips_are_the_same(clip):
    exact = unit_frames(clip.frames)
    as_floats = torch.from_numpy(clip.frames).float() / 127.5 - 1
    np.testing.assert_allclose(unit_frames(as_floats), exact, atol=1e-6)  # single precision
    assert np.array_equal(unit_frames(torch.from_numpy(clip.frames)), exact)


def test_the_best_path_does_not_jump():
    hill = lambda x, y: -((np.arange(40) - x)**2 + (np.arange(30)[:, None] - y)**2) / 4.
    maps = np.stack([hill(5, 6), hill(8, 7), hill(11, 8)])
    np.testing.assert_allclose(best_path(maps, stiffness=0), [[5, 6], [8, 7], [11, 8]], atol=1e-9)  # parabolas are found exactly
    maps[1, 29, 39] = 3  # a better match, but far away
    np.testing.assert_allclose(best_path(maps)[1], [8, 7], atol=1e-9)
    assert best_path(maps[1:2])[0].tolist() == [39, 29]


def test_evidence_is_the_sum_it_claims_to_be(clip):
    look = learn_look(clip.frames[:6], clip.extras['arm'][:6], 4)
    found = evidence(clip.frames[7:8], look)[0, 0]
    x = unit_frames(clip.frames[7:8])[0]
    y0, x0, n = 30, 25, len(look.trust) // 2
    part = np.s_[:, y0 - n:y0 + n + 1, x0 - n:x0 + n + 1]
    gain = np.minimum(((x - look.scene)**2).sum(0), .1)[part[1:]] - ((x[part] - look.mean)**2).sum(0)
    np.testing.assert_allclose(found[y0, x0], (look.trust * gain).sum() / (2 * .06**2), rtol=1e-9)  # Fourier in doubles


def test_the_arm_is_found_in_frames_not_learnt_from():
    errors = []
    for seed in range(6):
        clip = render('pusher', 500 + seed)
        look = learn_look(clip.frames[::2], clip.extras['arm'][::2], 7, TURNS)
        errors.append(distance(find_path(clip.frames[1::2], look), clip.extras['arm'][1::2]))
    assert np.median(errors) < .7  # asked for: below 1


def test_a_point_that_moves_by_whole_pixels_is_followed(clip, look):
    moved = np.roll(clip.frames, (2, -3), (2, 3))
    errors = distance(find_path(moved, look), clip.extras['arm'] + [-3, 2])
    assert np.median(errors) < 1  # the scene behind it has moved too


def test_noise_makes_it_worse(clip, look):
    noise = rng('finding', 0).normal(size=clip.frames.shape)
    off = [distance(find_path(np.clip(clip.frames + s * noise, 0, 255).astype(np.uint8), look), clip.extras['arm']).mean() for s in (0, 60, 240)]
    assert off[0] < .5 and off[0] < off[1] < off[2]


def test_a_known_start_is_kept(clip, look):
    found = find_path(clip.frames, look, clip.extras['arm'][0])
    assert distance(found[:1], clip.extras['arm'][:1]) < 2.5 and np.isfinite(found).all()


def test_each_clip_alone_and_the_same_every_time(clip, look):
    assert np.array_equal(find_path(clip.frames, look), find_path(torch.from_numpy(clip.frames), look))


@pytest.mark.parametrize('call, words', [
    (lambda clip, look: find_path(clip.frames[..., :32], look), 'learn it at this size'),
    (lambda clip, look: learn_look(clip.frames, clip.extras['arm'][:3], 7), 'finite path'),
    (lambda clip, look: learn_look(clip.frames, clip.extras['arm'] * np.nan, 7), 'finite path'),
    (lambda clip, look: unit_frames(clip.frames[0]), r'\(T, 3, H, W\)'),
    (lambda clip, look: unit_frames(clip.frames.astype(int)), 'convert them'),
])
def test_errors_say_what_is_wrong(clip, look, call, words):
    with pytest.raises(ValueError, match=words): call(clip, look)
