"Detectors: what they accept, how I3D is fed, and the same row in any batch."
import hashlib

import pytest
import torch

from ccvs.metrics.frechet.detector import Detector, clip_features, i3d_detector, i3d_input
from ccvs.metrics.frechet.i3d import I3D
from ccvs.metrics.frechet.resize import RESIZE_RULES


def bytes_(*shape, seed=0):
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope='module')
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp('weights') / 'random.pt'
    net = I3D()
    for part in net.modules():
        if isinstance(part, torch.nn.Conv3d): torch.nn.init.kaiming_normal_(part.weight, generator=torch.Generator().manual_seed(0))
    torch.save(net.state_dict(), path)
    return path


def test_what_a_detector_refuses():
    def means(clips): return clips.float().mean((1, 3, 4))
    detector = Detector('means', '', means, 3)
    clips = bytes_(2, 4, 3, 5, 6)
    assert torch.equal(clip_features(detector, clips), means(clips))
    for wrong in (clips.float(), clips[0], clips.transpose(1, 2)[:, :, :2]):
        with pytest.raises(ValueError, match='of bytes'): clip_features(detector, wrong)
    with pytest.raises(ValueError, match='3 frames or more, found 2'): clip_features(detector, clips[:, :2])
    for answer in (lambda x: means(x)[:1], lambda x: means(x).double(), lambda x: means(x)[:, 0], lambda x: means(x) * torch.nan):
        with pytest.raises(ValueError, match='as many rows of finite float32'): clip_features(detector._replace(features=answer), clips)


@pytest.mark.parametrize('resize', RESIZE_RULES)
def test_how_i3d_is_fed(resize):
    clip = bytes_(3, 3, 20, 28)
    expected = (RESIZE_RULES[resize](clip[None].float()) * 2 / 255 - 1).transpose(1, 2)      # I3D spec, section 5, in that order
    assert torch.equal(i3d_input(clip, resize), expected)
    torch.testing.assert_close(i3d_input(clip, resize, (0., 1.)), (expected + 1) / 2, rtol=0, atol=1e-6)     # float32 rounding of the scale
    assert torch.equal(i3d_input(clip, resize, channel_order='bgr'), expected.flip(1))


def test_a_detector_says_what_it_is(file):
    detector = i3d_detector(file, resize='crop', value_range=(0., 1.), channel_order='bgr', eps=1e-5)
    assert all(word in detector.name for word in ('i3d', 'pytorch-i3d', 'crop', '0 to 1', 'bgr', 'eps 1e-05'))
    assert detector.checksum == hashlib.sha256(file.read_bytes()).hexdigest() and detector.min_frames == 9
    with pytest.raises(ValueError, match='resize rule is one of legacy'): i3d_detector(file, resize='bicubic')
    with pytest.raises(ValueError, match='channel order is one of rgb, bgr'): i3d_detector(file, channel_order='grb')
    with pytest.raises(FileNotFoundError, match='save it as'): i3d_detector(file.parent / 'absent.pt')
    with pytest.raises(ValueError, match='should have SHA-256'): i3d_detector(file, sha256='0' * 64)


def test_same_row_in_any_batch(file):
    detector, clips = i3d_detector(file), bytes_(3, 9, 3, 16, 16)
    rows = clip_features(detector, clips)
    assert rows.shape == (3, 400) and rows.dtype == torch.float32
    assert torch.equal(clip_features(detector, clips[[2, 1]]), rows[[2, 1]])     # to the last bit
    assert rows.std(0).max() > 0 and clip_features(detector, clips[:0]).shape == (0, 400)
    assert not torch.equal(clip_features(i3d_detector(file, channel_order='bgr'), clips[:1]), rows[:1])
