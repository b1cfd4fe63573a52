"""The drummer: every hit is heard at its onset and seen as the stick's lowest point, on the drum that answers."""
import numpy as np
import pytest

from ccvs.data.worlds.drummer import FPS, KINDS, RATE, drummer, make_rhythm, make_kit, voice
from ccvs.core.seed import rng

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


def test_the_drum_that_is_hit_moves(clips):
    "Around the place of a hit, more moves in the frame of the hit than in frames without any hit."
    hit, rest = [], []
    for clip in clips:
        extras = clip.extras
        change = np.abs(np.diff(clip.frames.astype(float), axis=0)).mean(1)
        busy = {int(f) + k for f in extras['onset_frame'] for k in range(-1, 5)}
        for drum, (x, y) in enumerate(extras['drums']):
            local = change[:, max(int(y), 0):int(y) + 4, max(int(x) - 3, 0):int(x) + 4].mean((1, 2))
            hit += [local[f] for f in extras['onset_frame'][extras['onset_drum'] == drum] if f < len(local)]
            rest += [local[f] for f in range(len(local)) if f not in busy]
    assert np.mean(hit) > 3 * (np.mean(rest) if rest else 1.)


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
