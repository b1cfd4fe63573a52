"""The acts: a rule that looks at the motion alone names the action, whatever the sprite, speed, size and phase."""
import numpy as np
import pytest

from ccvs.data.worlds.acts import ACTIONS, acts


def name_of(path: np.ndarray) -> str:
    "The action, told from one sprite's poses (T, 4) in fractions of the side."
    x, y, a, b = path.T
    scale = np.sqrt(a ** 2 + b ** 2)
    if scale[-1] > 1.5 * scale[0]: return 'grow'
    if scale[-1] < scale[0] / 1.5: return 'shrink'
    turned, wide, high = np.ptp(a) + np.ptp(b), np.ptp(x), np.ptp(y)
    if turned > .1: return 'spin' if wide + high < .05 else 'swing'
    if max(wide, high) < .2: return 'shake'
    turns_x, turns_y = ((np.diff(np.sign(np.diff(v))) != 0).sum() for v in (x, y))
    if turns_x: return 'orbit'
    if not turns_y: return 'rise' if high > wide else 'slide-right' if x[-1] > x[0] else 'slide-left'
    fall = np.diff(y, 2)
    return 'fall-bounce' if np.median(fall) > .001 and np.abs(np.diff(fall[:4])).max() < 1e-6 else 'zigzag'


@pytest.mark.parametrize('label', range(len(ACTIONS)))
def test_motion_names_the_action(label):
    for seed in range(25):
        extras = acts(seed, frames=24, size=32, label=label).extras
        assert extras['label'] == label and extras['label'].shape == ()
        for sprite in extras['sprites']:
            path = sprite.copy()
            path[:, :2] = (path[:, :2] + .5) / 32
            assert name_of(path) == ACTIONS[label]


@pytest.mark.parametrize('label', range(len(ACTIONS)))
def test_the_picture_moves_as_the_poses_say(label):
    "Pixels near the last sprite's centre (drawn on top) move by the change of its pose."
    for seed in range(4):
        clip = acts(seed, size=64, label=label)
        for t in range(19):
            now, then = clip.extras['sprites'][-1, t:t + 2]
            x, y = np.floor(now[:2] + .5).astype(int)
            if not (0 <= x < 64 and 0 <= y < 64): continue
            turned = complex(*then[2:]) / complex(*now[2:])
            expected = complex(*then[:2]) + turned * (complex(x, y) - complex(*now[:2])) - complex(x, y)
            np.testing.assert_allclose(clip.motion_next[t, :, y, x], [expected.real, expected.imag], rtol=0, atol=1e-4)  # float32


def test_every_action_shows_in_the_frames():
    for label in range(len(ACTIONS)):
        for seed in range(8):
            clip = acts(seed, size=32, label=label)
            assert np.abs(np.diff(clip.frames.astype(int), axis=0)).max() > 20


def test_sprites_and_backgrounds_vary():
    first = np.stack([acts(seed, frames=2, size=32, label=0).frames[0] for seed in range(20)]).astype(float)
    apart = np.abs(first[:, None] - first[None]).mean((2, 3, 4))
    assert apart[~np.eye(20, dtype=bool)].min() > 8


def test_labels_are_even_and_can_be_forced():
    labels = [int(acts(seed, frames=1, size=32).extras['label']) for seed in range(330)]
    assert np.bincount(labels, minlength=len(ACTIONS)).min() > 12  # 30 expected, sigma 5.2
    assert int(acts(0, frames=1, size=32, label=4).extras['label']) == 4
    with pytest.raises(ValueError, match='a label is a whole number from 0 to 10, found 11'): acts(0, label=11)
