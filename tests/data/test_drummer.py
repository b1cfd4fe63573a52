"""The drummer: every hit is heard at its onset and seen as the stick's lowest point, on the drum that answers."""
import numpy as np
import pytest

from ccvs.core.seed import rng
from ccvs.data.worlds.drummer import (FPS, KINDS, RATE, Drum, Hit, answer, drum_parts, drummer, make_kit, make_rhythm,
                                      voice)

SEEDS = range(12)


@pytest.fixture(scope='module')
def clips():
    return [drummer(seed, frames=24, size=32) for seed in SEEDS]


def test_sound_is_aligned_with_frames(clips):
    for clip in clips:
        extras = clip.extras
        assert extras['sound'].shape == (24 * RATE // FPS,) and extras['sound'].dtype == np.float32
        assert np.abs(extras['sound']).max() <= 1 and extras['sound_rate'] == RATE and extras['fps'] == FPS
        assert (extras['onset_frame'] == np.floor(extras['onset_times'] * FPS + 1e-9)).all()
        assert (np.diff(extras['onset_times']) >= 0).all() and extras['onset_frame'].max(initial=0) < 24


def test_sound_bursts_within_ten_milliseconds_of_an_onset(clips):
    "Loudness of the sound's differences (tails are smooth, attacks are not) jumps at an onset and nowhere else as much."
    reach, bursts = RATE // 100, []
    for clip in clips:
        rough = np.diff(clip.extras['sound'].astype(float), prepend=0) ** 2
        for sample in np.round(clip.extras['onset_times'] * RATE).astype(int):
            if reach <= sample <= len(rough) - reach:
                before, after = rough[sample - reach:sample].mean(), rough[sample:sample + reach].mean()
                bursts.append(after / (before + 1e-9))
    assert len(bursts) > 80 and np.median(bursts) > 10 and np.mean(np.array(bursts) > 1.5) > .95


def test_silence_before_the_first_onset(clips):
    for clip in clips:
        first = int(round(clip.extras['onset_times'][0] * RATE))
        assert not clip.extras['sound'][:first].any() and clip.extras['sound'][first:first + 160].any()


def test_a_hit_is_the_stick_at_its_lowest_on_the_drum():
    for seed in range(40):
        extras = drummer(seed, frames=30, size=32).extras
        for frame, drum, hand in zip(extras['onset_frame'], extras['onset_drum'], extras['onset_hand']):
            tips = extras['tips'][:, hand]
            np.testing.assert_allclose(tips[frame], extras['drums'][drum], rtol=0, atol=1e-9)  # rounding of sums only
            for near in (frame - 1, frame + 1):
                if 0 <= near < 30: assert tips[near, 1] < tips[frame, 1] - .5  # pixels at 32x32


@pytest.mark.parametrize('kind, least', [(0, .1), (1, .15), (2, .05)])
def test_the_drum_that_is_hit_answers(kind, least):
    "Its top part changes pose in the frame of the hit and the next three, and is at rest otherwise."
    off = answer([Hit(5 * RATE // FPS, 5, 0, 0, 1.), Hit(14 * RATE // FPS, 14, 0, 0, .8)], 20)
    poses = drum_parts(rng('answer', kind), Drum(kind, .3, .6, .15, .1), off)[-1].pose
    moved = np.abs(poses - poses[0]).max(1)
    assert (np.flatnonzero(moved) == [5, 6, 7, 8, 14, 15, 16, 17]).all()
    assert moved[5] > least and moved[14] > .75 * least and moved[5] == moved.max()


def test_the_head_moves_in_the_clip(clips):
    "In the motion, too: something moves beside the strike point, where no stick is, more often at a hit than at rest."
    hit, rest = [], []
    for clip in clips:
        extras = clip.extras
        for drum in np.flatnonzero(extras['drum_kind'] == 0):
            x, y = np.round(extras['drums'][drum]).astype(int)
            moves = (np.abs(clip.motion_next[:, :, y, [x - 3, x + 3]]) > .05).any(1).all(1)
            struck = set(extras['onset_frame'][extras['onset_drum'] == drum].tolist())
            near = {frame + k for frame in struck for k in range(-1, 5)}
            hit += [moves[frame] for frame in struck if frame < 23]
            rest += [moves[frame] for frame in range(23) if frame not in near]
    assert len(hit) > 20 and np.mean(hit) > .9 and np.mean(rest) < .3


def test_drums_sound_different():
    "The pitch or noise of each kind shows in how fast its wave changes."
    kits = [(drum, voice(rng('kind', seed), drum)) for seed in range(40) for drum in make_kit(rng('kit', seed))]
    rough = lambda sound: (np.diff(sound) ** 2).mean() / (sound ** 2).mean()
    low, high, _ = ([rough(sound) for drum, sound in kits if drum.kind == kind] for kind in range(len(KINDS)))
    assert np.median(high) > 5 * np.median(low)
    assert all(np.abs(sound).max() <= 1 and np.abs(sound).max() > .2 for _, sound in kits)


def test_rhythms_differ_and_hands_get_time_to_lift():
    tempos = set()
    for seed in range(50):
        hits = make_rhythm(rng('r', seed), make_kit(rng('k', seed)), 40)
        tempos.add(len(hits))
        for hand in (0, 1):
            assert (np.diff([hit.frame for hit in hits if hit.hand == hand]) >= 2).all()
    assert len(tempos) > 8


def test_the_shortest_clip_has_no_hit_and_no_error():
    extras = drummer(0, frames=1, size=32).extras
    assert extras['sound'].shape == (RATE // FPS,) and extras['onset_times'].shape == extras['onset_frame'].shape
