"The resize rules: hand-computed values, torch's own two, and a frame of the right size untouched."
import pytest
import torch
import torch.nn.functional as F

from ccvs.metrics.frechet.resize import (RESIZE_RULES, align_corners, align_corners_positions, half_pixel, half_pixel_positions,
                                         legacy_bilinear, legacy_positions, lerp, shorter_side_and_crop)


def frames(*shape):
    return 255 * torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_a_ramp_by_hand():
    ramp = torch.tensor([[0., 1], [0, 1]])
    expected = torch.tensor([0, 0.5, 1, 1])                           # I3D spec, section 6: exact in binary
    assert torch.equal(legacy_bilinear(ramp.expand(1, 1, 3, 2, 2), 4), expected.expand(1, 1, 3, 4, 4))
    assert torch.equal(legacy_bilinear(ramp.T.expand(1, 1, 3, 2, 2), 4), expected[:, None].expand(1, 1, 3, 4, 4))


def test_other_rules_by_hand():
    line = torch.tensor([0., 1])
    assert lerp(line, 0, half_pixel_positions(2, 4)).tolist() == [0, 0.25, 0.75, 1]
    assert lerp(line, 0, align_corners_positions(2, 5)).tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert legacy_positions(6, 4).tolist() == [0, 1.5, 3, 4.5]        # shrinking: no filter
    assert align_corners_positions(7, 1).tolist() == [0]


def test_legacy_against_a_slow_loop():
    x = frames(5, 7).double()
    found = legacy_bilinear(x.view(1, 1, 1, 5, 7), 11)[0, 0, 0]
    for i in range(11):
        for j in range(11):
            y, z = i * 5 / 11, j * 7 / 11
            top, left = int(y), int(z)
            below, right = min(top + 1, 4), min(left + 1, 6)
            a, b = y - top, z - left
            expected = (1 - a) * ((1 - b) * x[top, left] + b * x[top, right]) + a * ((1 - b) * x[below, left] + b * x[below, right])
            assert abs(found[i, j] - expected) < 1e-10                # float64, values to 255


@pytest.mark.parametrize('shape', [(64, 64), (30, 47), (300, 240), (1, 3)])
def test_agrees_with_torch(shape):
    x = frames(2, 3, 3, *shape)
    for rule, corners in ((half_pixel, False), (align_corners, True)):
        expected = F.interpolate(x.flatten(0, 1), (224, 224), mode='bilinear', align_corners=corners).view(2, 3, 3, 224, 224)
        torch.testing.assert_close(rule(x), expected, rtol=0, atol=0.02)   # torch has float32 positions: 3e-5 pixels x 255 levels, twice


def test_shorter_side_and_crop():
    x = frames(1, 2, 3, 40, 60)
    expected = F.interpolate(x[0], (224, 336), mode='bilinear')[..., 56:280]
    torch.testing.assert_close(shorter_side_and_crop(x)[0], expected, rtol=0, atol=0.02)
    turned = shorter_side_and_crop(x.mT)
    torch.testing.assert_close(turned, shorter_side_and_crop(x).mT, rtol=0, atol=1e-4)       # rows and columns change places: rounding
    torch.testing.assert_close(shorter_side_and_crop(x[..., :40]), half_pixel(x[..., :40]), rtol=0, atol=0)


@pytest.mark.parametrize('rule', RESIZE_RULES.values(), ids=RESIZE_RULES)
def test_every_rule(rule):
    x = frames(1, 2, 3, 224, 224)
    assert torch.equal(rule(x), x)                                     # the right size passes through unchanged
    constant = torch.full((1, 1, 3, 20, 31), 77.)
    assert torch.equal(rule(constant), torch.full((1, 1, 3, 224, 224), 77.))
    batch = frames(7, 2, 3, 20, 31)
    assert torch.equal(torch.cat([rule(clip[None]) for clip in batch]), rule(batch))
    assert rule(batch).min() >= batch.min() and rule(batch).max() <= batch.max() + 1e-4      # nothing is invented; one rounding
    with pytest.raises(ValueError, match='as floats'): rule(x.byte())


def test_the_rules_differ_as_specified():
    "1/f noise at 64 pixels: half pixel and align corners are both about 8 grey levels away from legacy (I3D spec, section 5)."
    f = torch.hypot(torch.fft.fftfreq(64)[:, None], torch.fft.fftfreq(64)[None]).clamp(min=1 / 64)
    x = torch.fft.ifft2(torch.fft.fft2(torch.randn(64, 64, generator=torch.Generator().manual_seed(0))) / f).real
    x = (128 + 50 * x / x.std()).clamp(0, 255).view(1, 1, 1, 64, 64)
    for rule in (half_pixel, align_corners):
        assert 4 < (rule(x) - legacy_bilinear(x)).abs().mean() < 12     # the contrast of such noise is a choice
