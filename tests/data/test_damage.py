"Damage gets worse from level to level, spoils what it says, and leaves the rest alone."
import pytest
import torch

from ccvs.core.seed import torch_rng
from ccvs.data.damage import DAMAGES, LEVELS
from ccvs.data.worlds import render

CLIP = torch.from_numpy(render('pusher', 7, 16, 32).frames)


def spoilt(name, level, seed=0):
    return DAMAGES[name](CLIP, level, torch_rng(seed, name))


@pytest.mark.parametrize('name', DAMAGES)
def test_more_is_worse(name):
    "Averaged over seeds, because two draws of frame order may be equally bad by chance."
    away = [sum((spoilt(name, level, seed).float() - CLIP.float()).abs().mean().item() for seed in range(12)) for level in range(LEVELS)]
    assert all(a < b for a, b in zip(away, away[1:])), away
    assert away[0] > 0


@pytest.mark.parametrize('name', DAMAGES)
def test_shape_type_and_seed(name):
    out = spoilt(name, 4)
    assert out.shape == CLIP.shape and out.dtype == torch.uint8
    assert torch.equal(out, spoilt(name, 4))


@pytest.mark.parametrize('name', ['freeze', 'shuffle', 'slow'])
def test_damage_to_time_keeps_every_frame_intact(name):
    known = {frame.numpy().tobytes() for frame in CLIP}
    assert all(frame.numpy().tobytes() in known for frame in spoilt(name, 6))


def test_a_shuffled_clip_has_all_its_frames():
    order = lambda clip: sorted(frame.numpy().tobytes() for frame in clip)
    assert order(spoilt('shuffle', 7)) == order(CLIP)


def test_a_frozen_clip_stands_still_at_the_end_only():
    out = spoilt('freeze', 3)
    assert torch.equal(out[:8], CLIP[:8]) and all(torch.equal(out[7], frame) for frame in out[8:])
