"The first-stage codecs of iPOKE: shapes, free length, published sizes and the errors users meet."
import hashlib
import json
from functools import cache
from pathlib import Path

import pytest
import torch

from ccvs.codec import image, poke, video
from ccvs.codec.clip_encoder import build_clip_encoder, draw_latent, encoder_strides
from ccvs.core.config import from_dict, override, to_dict
from ccvs.nn.video.critics import ImageCritic, PatchCritic, TemporalCritic

pytestmark = pytest.mark.usefixtures('one_thread')

PUBLISHED = Path(__file__).parents[1]/'data'/'parity'/'ipoke'/'published_keys.json'
NAMES = dict(iper='iper', plants='plants', taichi='taichi', human36m='h36m')       # theirs -> ours
CODEC_NAMES = {'encoder.': 'enc_motion.', 'gru.': 'rnn.', 'decoder.': 'gen.'}


@pytest.fixture(scope='module')
def codec():
    torch.manual_seed(0)
    return video.build_video_codec(video.PRESETS['tiny']).eval()


@torch.no_grad()
def test_a_longer_clip_begins_with_the_shorter_one(codec):
    latent, start = torch.randn(2, 8, 4, 4), torch.rand(2, 3, 32, 32) * 2 - 1
    short, long = codec.decode(latent, start, 2), codec.decode(latent, start, 7)
    torch.testing.assert_close(long[:, :2], short, rtol=0, atol=1e-5)
    assert codec.decode(latent, start).shape == (2, 4, 3, 32, 32) and long.abs().max() < 1


@torch.no_grad()
def test_clips_of_a_batch_do_not_mix(codec):
    latent, start = torch.randn(3, 8, 4, 4), torch.rand(3, 3, 32, 32) * 2 - 1
    together = codec.decode(latent, start, 3)
    for i in range(3): torch.testing.assert_close(codec.decode(latent[i:i + 1], start[i:i + 1], 3)[0], together[i], rtol=0, atol=1e-5)


def test_training_mode_takes_one_power_iteration_per_frame():
    torch.manual_seed(0)
    codec = video.build_video_codec(video.PRESETS['tiny']).train()
    conv, latent, start = codec.decoder.out_conv, torch.randn(1, 8, 4, 4), torch.zeros(1, 3, 32, 32)
    spectral = codec.decoder.in_block.conv1.conv
    matrix, u = spectral.matrix().detach(), spectral.weight_u.clone()
    codec.decode(latent, start, 3)
    for _ in range(3): u = torch.nn.functional.normalize(matrix @ torch.nn.functional.normalize(matrix.T @ u, dim=0), dim=0)
    torch.testing.assert_close(spectral.weight_u, u, rtol=0, atol=1e-6)
    assert not hasattr(conv.conv, 'weight_u')                                         # the last convolution is left as it is


def test_the_same_noise_gives_the_same_latent(codec):
    clips, noise = torch.rand(2, 5, 3, 32, 32) * 2 - 1, torch.randn(2, 8, 4, 4)
    with torch.no_grad():
        a, b = codec.encode(clips, noise), codec.encode(clips, noise)
        c, d = (codec.encode(clips, generator=torch.Generator().manual_seed(seed)).sample for seed in (0, 1))
    assert torch.equal(a.sample, b.sample) and not torch.equal(c, d)
    torch.testing.assert_close(a.sample, draw_latent(a.mu, a.logvar, noise).sample)


def test_a_deterministic_codec_draws_nothing():
    codec = video.build_video_codec(override(video.PRESETS['tiny'], deterministic=True)).eval()
    posterior = codec.encode(torch.zeros(1, 5, 3, 32, 32))
    assert posterior.sample is posterior.mu is posterior.logvar


def test_variants():
    cfg = override(video.PRESETS['tiny'], whole=False, motion_bias=False, spectral=False)
    codec = video.build_video_codec(cfg).eval()
    assert codec.motion_bias is None and not any('weight_u' in name for name in codec.state_dict())
    with torch.no_grad():
        clips = torch.rand(1, 5, 3, 32, 32)
        changed = clips.clone()
        changed[:, 0] = 0
        assert torch.equal(codec.encode(clips).mu, codec.encode(changed).mu)          # the start frame is not read
    assert from_dict(video.VideoCodecCfg, to_dict(cfg)) == cfg


@pytest.mark.parametrize('size, grid, frames, widths, whole, strides', [
    (64, 8, 10, 4, True, [(2, 1, 1), (2, 2, 2), (2, 2, 2)]),
    (128, 8, 10, 5, True, [(2, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)]),
    (256, 8, 10, 6, True, [(2, 1, 1)] + [(2, 2, 2)] * 4),
    (64, 8, 16, 4, True, [(2, 1, 1), (2, 2, 2), (2, 2, 2), (2, 1, 1)]),
    (64, 8, 16, 4, False, [(2, 1, 1), (2, 2, 2), (2, 2, 2)]),
    (32, 4, 8, 4, False, [(1, 1, 1), (2, 2, 2), (2, 2, 2)]),
    (32, 4, 9, 4, False, [(2, 1, 1), (2, 2, 2), (2, 2, 2)])])
def test_strides(size, grid, frames, widths, whole, strides):
    assert encoder_strides(size, grid, frames, widths, whole) == strides


def test_sixteen_frames_get_one_more_stage():
    encoder = build_clip_encoder(64, 8, 16, (16, 16, 16, 16), 4)
    assert encoder(torch.zeros(1, 17, 3, 64, 64))[0].shape == (1, 4, 8, 8)


@pytest.mark.parametrize('make, words', [
    (lambda: video.build_video_codec(video.VideoCodecCfg(size=100)), 'decoder widths'),
    (lambda: build_clip_encoder(256, 8, 10, (16, 16, 16, 16), 4), '6 widths'),
    (lambda: video.build_video_codec(video.PRESETS['tiny']).encode(torch.zeros(1, 6, 3, 32, 32)), 'cut and resize'),
    (lambda: video.build_video_codec(video.PRESETS['tiny']).decode(torch.zeros(1, 8, 4, 4), torch.zeros(1, 3, 32, 32), 0), 'at least one'),
    (lambda: image.build_image_encoder(image.ImageEncoderCfg(size=100)), 'change size or grid'),
    (lambda: image.build_image_encoder(image.PRESETS['tiny']).encode(torch.zeros(1, 1, 32, 32)), 'resize'),
    (lambda: poke.build_poke_encoder(poke.PokeEncoderCfg(reads_motion=True)), 'sees_image'),
    (lambda: poke.build_poke_encoder(poke.PRESETS['tiny'])(torch.zeros(1, 2, 32, 32)), 'no start')])
def test_errors_say_what_to_do(make, words):
    with pytest.raises(ValueError, match=words): make()


def test_poke_inputs():
    maps = dict(poke=torch.full((1, 2, 32, 32), 1.), start=torch.full((1, 3, 32, 32), 2.), motion=torch.full((1, 2, 32, 32), 3.))
    reads = lambda **more: poke.build_poke_encoder(override(poke.PRESETS['tiny'], **more)).inputs(**maps)[0, :, 0, 0].tolist()
    assert reads() == [1, 1, 2, 2, 2]                                                 # the poke first
    assert reads(sees_image=False) == [1, 1] and reads(sees_image=False, reads_motion=True) == [3, 3]


def test_variational_encoders():
    torch.manual_seed(0)
    net = image.build_image_encoder(override(image.PRESETS['tiny'], variational=True)).eval()
    x, noise = torch.rand(1, 3, 32, 32), torch.randn(1, 32, 4, 4)
    with torch.no_grad(): code = net.encode(x, noise)
    torch.testing.assert_close(code.sample, code.mu + code.logstd.exp() * noise)
    assert 0 < code.logstd.min() and code.logstd.max() < 1
    assert image.build_image_encoder(image.PRESETS['tiny']).encode(x).logstd is None


@cache
def recorded():
    return json.loads(PUBLISHED.read_text())


def lines_of(net, prefixes=()):
    "The published listing of a network: one line per tensor, its name, type and shape."
    def theirs(name): return next((b + name.removeprefix(a) for a, b in dict(prefixes).items() if name.startswith(a)), name)
    state = {theirs(name): value for name, value in net.state_dict().items()}
    return [f'{name} {str(value.dtype).removeprefix("torch.")} {"x".join(map(str, value.shape))}\n' for name, value in sorted(state.items())]


@pytest.mark.parametrize('name', recorded()['configurations'])
@pytest.mark.parametrize('part', ['video_autoencoder', 'image_encoder', 'poke_encoder', 'disc_t', 'disc_s', 'image_disc'])
def test_published_names_shapes_and_counts(name, part):
    world, size = name.rsplit('_', 1)
    preset = f'{NAMES[world]}_{size}'
    with torch.device('meta'):
        net = dict(video_autoencoder=lambda: video.build_video_codec(video.PRESETS[preset]),
                   image_encoder=lambda: image.build_image_encoder(image.PRESETS[preset]),
                   poke_encoder=lambda: poke.build_poke_encoder(poke.PRESETS[preset]),
                   disc_t=TemporalCritic, disc_s=PatchCritic, image_disc=ImageCritic)[part]()
    wanted = recorded()['configurations'][name][part]
    lines = lines_of(net, CODEC_NAMES if part == 'video_autoencoder' else ())
    assert sum(p.numel() for p in net.parameters()) == wanted['parameters'] and len(lines) == wanted['tensors']
    assert hashlib.sha256(''.join(lines).encode()).hexdigest() == wanted['sha256']
