"""Pictures and pokes in, clips out: shapes, seeds, refusals, files; whatever the prior."""
import json
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from ccvs.codec.image import PRESETS as IMAGES, build_image_encoder
from ccvs.codec.poke import PRESETS as ENCODERS, build_poke_encoder
from ccvs.codec.video import PRESETS as CODECS, build_video_codec
from ccvs.control.conditioning import Conditioning
from ccvs.core.config import override
from ccvs.data.worlds import render
from ccvs.nn.invertible.affine import NormedConv
from ccvs.prior.cinn import PRESETS as CINNS, Cinn
from ccvs.prior.cvae import PRESETS as VAES, build_poke_vae
from ccvs.prior.flow_matching import PRESETS as FLOWS, FlowMatching
from ccvs.synth import load
from ccvs.synth.picture import into_picture, limits, model_frame, read_picture
from ccvs.synth.poker import PRESETS, Poker
from ccvs.synth.second_stage import BaselineStage, SecondStage

PULL = [((16, 10), (22, 12))]


def make(kind):
    torch.manual_seed(0)
    if kind == 'cvae': return Poker(BaselineStage(build_poke_vae(VAES['tiny'])), PRESETS['tiny'])
    prior = Cinn(CINNS['tiny']) if kind == 'cinn' else FlowMatching(FLOWS['tiny'])
    for part in prior.modules():
        if isinstance(part, NormedConv): part.weight_g.data.uniform_(.02, .1)
    if kind == 'flow': torch.nn.init.normal_(prior.velocity.last.weight, std=.05)
    conditioning = Conditioning(build_image_encoder(IMAGES['tiny']), build_poke_encoder(override(ENCODERS['tiny'], poke_channels=3)))
    return Poker(SecondStage(build_video_codec(CODECS['tiny']), conditioning, prior), PRESETS['tiny'])


@pytest.fixture(scope='module', params=['cinn', 'flow', 'cvae'])
def poker(request): return make(request.param)


@pytest.fixture(scope='module')
def exact(): return make('cinn')


def picture(size=32, seed=3): return torch.from_numpy(render('plant', seed, 2, size).frames[0])
def video(seed=3): return torch.from_numpy(render('plant', seed, 5, 32).frames)
def largest(a, b): return (a.int() - b.int()).abs().max().item()


def test_clips(poker):
    clips = poker.poke(picture(), PULL, samples=3, seed=1)
    assert clips.shape == (3, 5, 3, 32, 32) and clips.dtype == torch.uint8 and clips[:, 0].eq(picture()).all()
    assert poker.poke(picture(), PULL, seed=1).shape == (5, 3, 32, 32)
    assert poker.poke(picture(), PULL, length=8).shape[0] == 8
    assert largest(clips[0], clips[1]) > 0 and largest(clips, poker.poke(picture(), PULL, samples=3, seed=2)) > 0


def test_a_sample_does_not_depend_on_how_many_are_made(poker):
    many = poker.poke(picture(), PULL, samples=18, seed=1)                       # more than one pass
    assert largest(many[:2], poker.poke(picture(), PULL, samples=2, seed=1)) <= 1   # rounding of larger products
    assert largest(many[0], poker.poke(picture(), PULL, seed=1)) <= 1


@pytest.mark.parametrize('wrong, words', [
    (dict(pokes=[((40, 10), (22, 12))]), 'outside the image'), (dict(pokes=[]), 'there is no poke'), (dict(samples=0), 'at least one sample'),
    (dict(length=1), 'at least one frame more'), (dict(image=torch.zeros(5, 6, 7)), '1, 3 or 4 channels'),
])
def test_refusals(exact, wrong, words):
    with pytest.raises(ValueError, match=words): exact.poke(**(dict(image=picture(), pokes=PULL) | wrong))


def test_pokes_of_no_length_are_seen(exact):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        still = exact.poke(picture(), PULL + [((16, 28), (16, 28))], seed=1)
    assert largest(still, exact.poke(picture(), PULL, seed=1)) > 0


def test_any_size_comes_back_at_its_size(exact):
    wide = picture(128)[:, 16:112]                                               # 96 rows, 128 columns
    with pytest.warns(UserWarning, match='columns 16 to 111'): clip = exact.poke(wide, [((64, 40), (80, 44))])
    assert clip.shape == (5, 3, 96, 128) and clip[..., :16].eq(wide[..., :16]).all() and clip[..., 112:].eq(wide[..., 112:]).all()
    small = picture(32)[:, 8:24, 8:24]
    assert exact.poke(small, [((8, 8), (10, 8))]).shape == (5, 3, 16, 16)
    assert limits(32, 32, 32) == '' and 'rows' in limits(64, 32, 32) and 'enlarged' in limits(64, 64, 32)


def test_pictures_of_every_kind(tmp_path):
    frame = picture()
    image = Image.fromarray(frame.permute(1, 2, 0).numpy())
    image.save(tmp_path / 'p.png')
    clear = image.convert('RGBA')
    for same in (frame, frame.numpy(), frame.permute(1, 2, 0), frame / 255, frame.numpy() / 127.5 - 1, image, clear, tmp_path / 'p.png', str(tmp_path / 'p.png')):
        assert read_picture(same).equal(frame)
    grey = image.convert('L')
    for same in (grey, np.asarray(grey), np.asarray(grey)[None], np.asarray(grey)[..., None]): assert read_picture(same).equal(read_picture(grey))
    clear.putalpha(0)
    assert read_picture(clear).eq(255).all() and read_picture(np.asarray(clear)).eq(255).all()
    turned = Image.new('RGB', (4, 2)); turned.getexif()[0x112] = 6
    turned.save(tmp_path / 't.jpg', exif=turned.getexif())
    assert read_picture(tmp_path / 't.jpg').shape == (3, 4, 2)                   # upright
    for wrong, error in ((tmp_path / 'none.png', FileNotFoundError), (torch.full((3, 4, 4), 200.), ValueError), (torch.zeros(3, 4, 4, dtype=torch.int64), ValueError),
                         (torch.full((3, 4, 4), float('nan')), ValueError), (None, ValueError), (np.zeros((0, 4, 3), np.uint8), ValueError)):
        with pytest.raises(error): read_picture(wrong)


def test_frames_return_to_their_square():
    wide = picture(64)[:, :48]
    back = into_picture(((model_frame(wide, 48) + 1) * 127.5).round().byte(), wide)
    assert back.equal(wide[None])


def test_transfer_to_its_own_start_gives_the_clip_back(exact):
    own, other = exact.transfer(video(), video()[0], PULL), exact.transfer(video(), picture(seed=8), PULL)
    with torch.no_grad():
        clip = video()[None].float() / 127.5 - 1
        played = exact.model.codec.decode(exact.model.latent(clip), clip[:, 0])
    assert largest(own[1:], ((played[0].clamp(-1, 1) + 1) * 127.5).round()) <= 1
    assert other.shape == own.shape and other[0].equal(picture(seed=8)) and largest(other[1:], own[1:]) > 1


def test_likelihood(exact):
    told, silent = exact.likelihood(video(), PULL), exact.likelihood(video())
    assert told.nats != silent.nats and told.residual.shape == (8, 4, 4) and told.surprise == pytest.approx(told.residual.square().mean().item(), rel=1e-4)
    longer = torch.cat([video(), video()])
    assert exact.likelihood(longer, PULL).nats == told.nats
    with pytest.raises(ValueError, match='5 frames or more'): exact.likelihood(video()[:4])
    with pytest.raises(ValueError, match='no density'): make('cvae').likelihood(video())


def test_sensitivity_and_uncertainty(exact):
    fan = exact.sensitivity(picture(), (16, 10), 4, seed=2)
    assert len(fan.pokes) == 4 and fan.clips.shape == (4, 5, 3, 32, 32)
    assert largest(fan.clips[0], exact.poke(picture(), [fan.pokes[0]], seed=2)) <= 1
    given = exact.sensitivity(picture(), (16, 10), [(0, 5)])
    assert given.pokes == [((16, 10), (16, 15))]
    found = exact.uncertainty(picture(), PULL, samples=5)
    assert not found.spread[0].any() and found.spread[1:].max() > 0 and found.mean[0].equal(picture())
    with pytest.raises(ValueError, match='two samples'): exact.uncertainty(picture(), PULL, samples=1)


def test_files(poker, tmp_path):
    again = load(poker.save_pretrained(tmp_path / 'model', card='# toy'))
    assert isinstance(again, Poker) and again.cfg == poker.cfg
    assert again.poke(picture(), PULL, seed=3).equal(poker.poke(picture(), PULL, seed=3))
    assert (tmp_path / 'model' / 'card.md').read_text() == '# toy'
    size = sum(p.stat().st_size for p in (tmp_path / 'model').glob('*.safetensors'))
    half = poker.save_pretrained(tmp_path / 'half', half=True)
    assert sum(p.stat().st_size for p in half.glob('*.safetensors')) < .65 * size
    assert largest(load(half).poke(picture(), PULL, seed=3), poker.poke(picture(), PULL, seed=3)) < 8


def test_broken_files(exact, tmp_path):
    folder = exact.save_pretrained(tmp_path / 'model')
    config = json.loads((folder / 'config.json').read_text())
    def broken(change, words):
        (folder / 'config.json').write_text(json.dumps(config | change))
        with pytest.raises((ValueError, FileNotFoundError), match=words): load(folder)
    broken(dict(prior=dict(kind='oracle')), 'known are cinn')
    broken(dict(prior=config['prior'] | dict(hidden=32)), 'does not fit')
    broken(dict(model='ccvs.Oracle'), 'known are')
    broken(dict(codec=config['codec'] | dict(latent_width=16)), 'does not fit|do not belong')
    (folder / 'config.json').write_text(json.dumps(config))
    (folder / 'prior.safetensors').unlink()
    with pytest.raises(FileNotFoundError, match='lacks prior.safetensors'): load(folder)
