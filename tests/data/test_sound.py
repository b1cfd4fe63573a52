"Slices of sound: they say when and how high, per frame, in the form the published networks take."
import numpy as np
import pytest
import torch

from ccvs.core.seed import rng
from ccvs.data.sound import SliceCfg, fit_slices, sound_slices
from ccvs.data.worlds import render

FPS = 10


@pytest.mark.parametrize('seed', range(4))
def test_every_hit_of_the_drummer_is_loud_in_the_slice_of_its_frame(seed):
    "The frame of a hit holds a rise in loudness of at least a tenth of the range from one column to the next but one; silence before the first hit holds none."
    extras = render('drummer', seed, 12, 32).extras
    slices = sound_slices(extras['sound'], FPS, 12)
    loudness = slices[:, 0].mean(1).flatten()                                     # (T * 16,) over time
    rise = torch.cat([torch.zeros(2), loudness[2:] - loudness[:-2]]).view(12, 16).amax(1)
    hits = sorted(set(extras['onset_frame'].tolist()))
    assert (rise[hits] > .1).all(), rise
    first = extras['onset_times'].min()
    assert (slices[:int(first * FPS)] == -1).float().mean() > .95


@pytest.mark.parametrize('hertz, row', [(140, 1 - 1), (1000, 7), (4000, 31), (7900, 63)])
def test_a_tone_is_bright_in_its_row(hertz, row):
    "64 rows of 125 Hz each; a bin belongs to the band it lies in, to one row."
    wave = torch.sin(2 * torch.pi * hertz * torch.arange(16_000, dtype=torch.float64) / 16_000)
    column = sound_slices(wave, FPS, 10)[5, 0, :, 8]
    assert abs(int(column.argmax()) - row) <= 1
    assert column.max() > .8 and column.median() < -.5


def test_louder_is_brighter_by_decibels():
    "Ten times the amplitude is 20 of 80 decibels: half of the range from -1 to 1, wherever the floor is not reached."
    wave = .05 * rng(0).standard_normal(16_000)
    soft, loud = (sound_slices(scale * wave, FPS, 10)[2:8] for scale in (.1, 1))
    both = soft > -1
    assert both.float().mean() > .5
    torch.testing.assert_close((loud - soft)[both], torch.full_like(soft[both], .5), atol=1e-4, rtol=0)


def test_frame_t_uses_slice_t():
    wave = render('drummer', 1, 8, 32).extras['sound']
    slices = sound_slices(wave, FPS, 8)
    assert torch.equal(sound_slices(np.pad(wave, (3200, 0)), FPS, 10)[3:], slices[1:])
    assert torch.equal(sound_slices(wave, FPS, 20)[:7], slices[:7]) and (sound_slices(wave, FPS, 20)[10:] == -1).all()


@pytest.mark.parametrize('fps', [30, 24, 29.97])
def test_rates_that_do_not_divide(fps):
    assert sound_slices(render('drummer', 1, 8, 32).extras['sound'], fps, 20).shape == (20, 1, 64, 16)


def test_foreign_slices_are_mapped_and_resized_as_specified():
    "2v - 1, bilinear with align_corners False: a constant stays, and two values meet halfway at a shrink by two."
    assert (fit_slices(torch.full((2, 128, 44), .25)) == -.5).all()
    pair = torch.tensor([0., 1.]).repeat(64)[None, :, None].expand(1, 128, 16)
    assert torch.allclose(fit_slices(pair), torch.zeros(1, 1, 64, 16), atol=1e-6)
    with pytest.raises(ValueError, match='one 2-D slice per frame'): fit_slices(torch.zeros(3, 4))


@pytest.mark.parametrize('sound', [np.zeros((2, 100)), np.zeros(100, np.int16), np.array([np.nan]), np.zeros(0)])
def test_sound_of_the_wrong_kind(sound):
    with pytest.raises(ValueError, match='expected a waveform'): sound_slices(sound, FPS, 2)


def test_a_window_that_does_not_come_out_even():
    with pytest.raises(ValueError, match='change window'): SliceCfg(window=500)
