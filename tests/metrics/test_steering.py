"Control accuracy against the truth of the worlds, on scenes in which something else happened than in the clip learnt from."
import sys
from unittest import mock

import numpy as np
import pytest
import torch

from ccvs.data.worlds import render
from ccvs.metrics.control.finding import TURNS, find_path, learn_look
from ccvs.metrics.control.sound import onset_score
from ccvs.metrics.control.steering import (ARM_RADIUS, POKE_RADIUS, arm_errors, class_accuracy, end_psnr, hit_score, learn_hits,
                                           poke_errors, poked_path, seen_hits)


def other(world, part, change, seed, **more):
    "The same scene with something else happening."
    module = sys.modules[f'ccvs.data.worlds.{world}']
    kept = getattr(module, part)
    with mock.patch.object(module, part, lambda *given: change(kept(*given))): return render(world, seed, **more)


def mirrored(answer):
    return answer[0] * [-1, 1] + [1, 0], answer[1]


def other_way(poke):
    return poke._replace(dx=-poke.dx, dy=-poke.dy)


def backwards(hits):
    last = 20 * 1600 - 1
    return sorted(h._replace(sample=last - h.sample, frame=(last - h.sample) // 1600) for h in hits if h.frame < 20)


def test_the_arm_is_found_on_a_path_not_learnt_from():
    errors = []
    for seed in range(6):
        clip, unseen = render('pusher', 700 + seed), other('pusher', 'arm_path', mirrored, 700 + seed)
        look = learn_look(clip.frames, clip.extras['arm'], ARM_RADIUS * 64, TURNS)
        errors.append(np.linalg.norm(find_path(unseen.frames, look, unseen.extras['arm'][0]) - unseen.extras['arm'], axis=1))
    assert np.median(errors) < 1  # asked for at 64 x 64


def test_an_obedient_arm_has_a_small_error_and_another_a_large_one():
    clip, unseen = render('pusher', 103), other('pusher', 'arm_path', mirrored, 103)
    assert np.median(arm_errors(clip.frames, clip.frames, clip.extras['arm'])) < .5
    true = np.linalg.norm(unseen.extras['arm'] - clip.extras['arm'], axis=1)
    found = arm_errors(unseen.frames, clip.frames, clip.extras['arm'], given=0)
    np.testing.assert_allclose(np.median(found), np.median(true), atol=1.5)  # twice the finder's own error


def test_the_arm_error_grows_with_disobedience():
    clip, errors = render('pusher', 103), []
    for level in range(8):
        drawn = other('pusher', 'arm_path', lambda a: ((a[0] - .5) * (1 - level / 32) + .5, a[1]), 103)
        errors.append(arm_errors(drawn.frames, clip.frames, clip.extras['arm'], given=0).mean())
    assert (np.diff(errors) > 0).all()


def test_the_poked_point_is_the_node_that_was_poked():
    extras = render('plant', 100).extras
    path = poked_path(extras['poke'], extras['nodes'])
    assert np.linalg.norm(path[int(extras['poke'][4])] - extras['poke'][:2]) < 1e-6


def test_the_end_of_a_poke_is_found():
    ends = []
    for seed in range(5):
        clip, unseen = render('plant', 100 + seed), other('plant', 'choose_poke', other_way, 100 + seed)
        path, truth = (poked_path(c.extras['poke'], c.extras['nodes']) for c in (clip, unseen))
        found = find_path(unseen.frames, learn_look(clip.frames, path, POKE_RADIUS * 64, TURNS), truth[0])
        ends.append(np.linalg.norm(found[-1] - truth[-1]))
    assert np.median(ends) < 1.5


def test_the_poke_error_grows_when_a_clip_stands_still():
    clip = render('plant', 0)
    path = poked_path(clip.extras['poke'], clip.extras['nodes'])
    moving = poke_errors(clip.frames, clip.frames, path)
    still = poke_errors(clip.frames[[0] * 20], clip.frames, path)
    assert still.mean() > 2 * moving.mean() and len(still) == 20


def test_hits_are_seen_in_a_rhythm_not_learnt_from():
    scores = []
    for seed in range(8):
        clip, unseen = render('drummer', 300 + seed), other('drummer', 'make_rhythm', backwards, 300 + seed)
        extras = clip.extras
        look = learn_hits(clip.frames, extras['drums'], extras['onset_frame'], extras['onset_drum'])
        scores.append(onset_score(seen_hits(unseen.frames, look), np.unique(unseen.extras['onset_frame']), 0).f1)
    assert np.mean(scores) > .9  # to the frame


def test_the_onset_error_grows_as_hits_vanish():
    clip = render('drummer', 100)
    extras = clip.extras
    look = learn_hits(clip.frames, extras['drums'], extras['onset_frame'], extras['onset_drum'])
    rows = []
    for keep in range(20, 4, -2):  # frames after which the clip stands still
        frames = clip.frames[np.minimum(np.arange(20), keep - 1)]
        rows.append(hit_score(frames, look, extras['sound'], extras['sound_rate'], 10))
    assert rows[0].f1 > .85 and rows[-1].recall < .5
    assert (np.diff([r.recall for r in rows]) <= 0).all()


def test_end_frame():
    clips = torch.zeros(2, 5, 3, 8, 8)
    end = torch.zeros(2, 3, 8, 8)
    end[1] += .02
    np.testing.assert_allclose(end_psnr(clips, end), [np.inf, 40], atol=1e-4)  # 20 log10(2 / .02), in single precision
    noise = torch.randn(clips.shape, generator=torch.Generator().manual_seed(0))
    rows = [end_psnr(clips + level / 10 * noise, end)[1].item() for level in range(1, 9)]
    assert (np.diff(rows) < 0).all()
    with pytest.raises(ValueError, match='one type'): end_psnr(clips, end.double())


@pytest.mark.parametrize('batch', [1, 7, 64])
def test_class_accuracy(batch):
    clips = torch.arange(10.)[:, None, None, None, None].expand(10, 4, 3, 8, 8)
    labels = torch.arange(10) % 5
    by_label = lambda x: x.flatten(1)[:, 0].long() % 5
    by_score = lambda x: torch.nn.functional.one_hot(by_label(x), 5).float()
    assert class_accuracy(by_label, clips, labels, batch).all() and class_accuracy(by_score, clips, labels, batch).all()
    rows = [class_accuracy(by_label, clips, labels + (torch.arange(10) < level), batch).float().mean().item() for level in range(8)]
    np.testing.assert_allclose(rows, 1 - np.arange(8) / 10, atol=1e-6)
    with pytest.raises(ValueError, match='as many labels'): class_accuracy(by_label, clips, labels[:3], batch)
