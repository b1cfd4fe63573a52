"The elastic view as a whole against the recorded official one, from the same random draws; its parts are cases of the runner."
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from ccvs.nn.elastic import ELASTIC, bend_and_zoom, corrupt, gaussian_blur, outside_to_zero, smooth_noise
from ccvs.nn.warp import warp

from .cases import FOLDER

NUMBERS = load_file(FOLDER / 'ccvs/aug_elastic.safetensors')

# name of the view, suffixes of its picture, field noise and blob noise; preset; zoom, read off the recorded motion
VIEWS = dict(
    zoom_out=('', '', None, 'published'),
    zoom_in=('#2', '#2', None, 'published'),
    zoom_out_corruption_blur=('#3', '#3', '', 'published'),
    zoom_in_corruption_blur_resize=('#4', '#4', '#2', 'published'),
    no_zoom_resize=('#5', '#5', '#3', 'kinetics'),
)


def recorded(view):
    "Everything recorded about a view, plus what its draws were."
    image, field, blobs, preset = VIEWS[view]
    out = {key.rsplit('/', 1)[1]: value for key, value in NUMBERS.items() if key.startswith(f'output/{view}/')}
    draws = torch.stack([NUMBERS['input/u_dx' + field], NUMBERS['input/u_dy' + field]])
    blobs = None if blobs is None else NUMBERS['input/u_corr' + blobs]
    return NUMBERS['input/img' + image][None], draws, blobs, ELASTIC[preset], out


def hills(unit, cfg):
    high = unit.shape[-2]
    return (cfg.alpha * high * smooth_noise(2 * unit - 1, cfg.sigma * high)).float()


def resized(x, size):
    return F.interpolate(x, size=(size, size), mode='bilinear', align_corners=False)


def recorded_zoom(out, high):
    "The zoom drawn in the recording: the added motion at the left border is half of what the picture grew."
    small = out['flow'].shape[-1]
    inverse = resized(out['inverted_flow'][None], small)[0] * small / high
    added = out['flow'][0] - inverse[0]
    rim = added[0, 0].item() * high / small
    if small != high: rim *= 1 / (1 - (high / small - 1) / (high - 1))     # resizing moved the first column inwards
    share = 1 - 2 * abs(rim) / high
    return share if rim > 0 else 1 / share


@pytest.mark.parametrize('view', VIEWS)
def test_field(view):
    _, draws, _, cfg, out = recorded(view)
    torch.testing.assert_close(hills(draws, cfg), out['elastic_flow'], rtol=1e-4, atol=2e-5)   # filtered in float64


@pytest.mark.parametrize('view', VIEWS)
def test_view(view):
    image, draws, blobs, cfg, out = recorded(view)
    high, small = image.shape[-1], out['flow'].shape[-1]
    zoom = torch.tensor([recorded_zoom(out, high)])
    bent = bend_and_zoom(image, hills(draws, cfg)[None], zoom, outside_to_zero)
    given, target, motion = (resized(part, small) for part in bent)          # leaves views of full size as they are
    motion = motion * small / high
    # the zoom comes from recorded float32 motion: an error of 1e-6 there is 1e-5 in pixel values
    torch.testing.assert_close(motion[0], out['flow'], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(target[0], out['distorted_img'], rtol=1e-4, atol=1e-4)
    if blobs is None:
        torch.testing.assert_close(given[0], out['context_img'], rtol=1e-4, atol=1e-4)
        return
    mask = (hills(blobs, cfg)[None, None] > 1 - 2 * cfg.corruption).float()
    small_mask = resized(mask, small)
    given = gaussian_blur(given, best_sigma(given, small_mask, out))
    torch.testing.assert_close(given * (1 - small_mask), out['context_img'], rtol=1e-4, atol=2e-4)   # the width is a guess
    masked = resized(1 + warp(mask - 1, bent.motion), small) > .5            # carried over before it is resized
    assert torch.equal(masked, out['mask'])
    if small == high:
        found = corrupt(given, motion, mask)
        assert torch.equal(found[0], given * (1 - mask)) and torch.equal(found[1], out['mask'])


def best_sigma(given, mask, out):
    "The blur width is not recorded: the one in (0, 2) that explains the picture best, by ever finer grids."
    low, high = .01, 1.99
    for _ in range(6):
        tries = torch.linspace(low, high, 41)
        errors = [(gaussian_blur(given, s[None]) * (1 - mask) - out['context_img']).abs().mean() for s in tries]
        best, width = tries[int(torch.stack(errors).argmin())].item(), (high - low) / 20
        low, high = max(.001, best - width), best + width
    return torch.tensor([best])
