"Predictors that can be led: what is asked for arrives, is streamed alike, survives the disk, and what cannot be done is said in one sentence."
from dataclasses import replace
from itertools import islice

import pytest
import torch

from ccvs.codec.frame import FrameCodecCfg, build_frame_codec
from ccvs.codec.sound import SoundCodecCfg, build_sound_codec
from ccvs.core.seed import torch_rng
from ccvs.data.sound import SliceCfg, sound_slices
from ccvs.prior.choice import ChoiceCfg
from ccvs.prior.pose import PoseCfg, build_pose
from ccvs.prior.transformer import TransformerCfg, build_transformer
from ccvs.synth import from_pretrained
from ccvs.synth.pipeline import Predictor, PredictorCfg, as_bytes, as_clip, encode_clip, reconstruct
from ccvs.synth.sampling import SamplingCfg

pytestmark = pytest.mark.usefixtures('one_thread')

CODEC = FrameCodecCfg(16, (8, 8, 8), latent_width=8, codes=24, motion_widths=(8, 8, 8))
SIZES = TransformerCfg(vocab=24, layers=2, heads=2, width=16, grid=(4, 4), frames=12, capacity=80)
CFG = PredictorCfg(SamplingCfg(top_k=8, control=ChoiceCfg(top_k=4)), memory=2, offsets=(1, 2), given=2, fps=10.)
SOUND = SoundCodecCfg(SliceCfg(rate=1600, window=32, rows=16, columns=8), width=4, latent_width=4, codes=12)


def clips(*shape): return torch.randint(256, shape, dtype=torch.uint8, generator=torch_rng(1, *shape))


def model(cfg=CFG, pose=False, sound=False, **sizes):
    "Random weights, spread so that codes vary and all that is told matters."
    torch.manual_seed(0)
    if pose: sizes |= dict(control_vocab=16, control_tokens=2, capacity=90)
    if sound: sizes |= dict(control_vocab=12, control_tokens=2, capacity=90)
    codec, net, source = build_frame_codec(CODEC), build_transformer(replace(SIZES, **sizes)), torch_rng(0, 'toy')
    pose, sound = build_pose(PoseCfg((4, 4), 8, 8, 16)) if pose else None, build_sound_codec(SOUND) if sound else None
    with torch.no_grad():
        feats = codec.encode(clips(32, 3, 16, 16).float() / 127.5 - 1).feats.movedim(1, -1).flatten(0, -2)
        codec.quantizer.embedding.weight.copy_(feats[torch.randperm(len(feats), generator=source)[:24]])
        if sound is not None:
            feats = sound.encoder(sound_slices(wave(12, 7), 10., 12, SOUND.slices)).movedim(1, -1).flatten(0, -2)
            sound.quantizer.embedding.weight.copy_(feats[torch.randperm(len(feats), generator=source)[:12]])
        for name, p in net.named_parameters():
            if 'ln' not in name: p.normal_(0, 1 if 'emb' in name else 3 / p.shape[-1] ** .5 if p.ndim > 1 else .1, generator=source)
    return Predictor(codec, net, cfg, pose, sound)


def wave(frames, seed=0): return torch.rand(160 * frames, generator=torch_rng(3, seed)) * 2 - 1
def path(frames, seed=0): return torch.rand(frames, 2, generator=torch_rng(4, seed)) * 15


ENDS = replace(CFG, ends=True)
KINDS = {
    'trajectory': (lambda: model(pose=True), [dict(trajectory=path(6)), dict(trajectory=path(6, 1)), dict(trajectory=path(2)), {}]),
    'sound': (lambda: model(sound=True), [dict(sound=wave(8)), dict(sound=wave(8, 1)), dict(sound=wave(8)[:320])]),
    'end': (lambda: model(ENDS), [dict(end=clips(3, 16, 16)), dict(end=255 - clips(3, 16, 16))]),
    'an end or none': (lambda: model(replace(ENDS, needs_end=False)), [dict(end=clips(3, 16, 16)), {}]),
    'label': (lambda: model(replace(CFG, labels=('walk', 'wave', 'hop')), labels=3), [dict(label='wave'), dict(label='hop'), dict(label=0)]),
    'trajectory and end': (lambda: model(ENDS, pose=True, capacity=106), [dict(trajectory=path(6), end=clips(3, 16, 16)), dict(end=clips(3, 16, 16))]),
    'sound, end, label from nothing on': (lambda: model(ENDS, sound=True, labels=2, start=True), [dict(sound=wave(8), end=clips(3, 16, 16), label=1)]),
}


@pytest.fixture(scope='module', params=KINDS, ids=lambda name: name.replace(' ', '_').replace(',', ''))
def led(request):
    build, wishes = KINDS[request.param]
    return build(), wishes


def test_every_wish_makes_another_clip(led):
    made = [led[0].predict(clips(2, 3, 16, 16), 6, samples=3, **wish) for wish in led[1]]
    assert all(clip.shape == (3, 6, 3, 16, 16) for clip in made)
    assert all(not torch.equal(a, b) for i, a in enumerate(made) for b in made[:i])


def test_streaming_gives_what_predict_gives(led):
    "The window of five frames slides."
    for wish in led[1]:
        assert torch.equal(torch.stack(list(led[0].stream(clips(2, 3, 16, 16), 6, seed=4, **wish))), led[0].predict(clips(2, 3, 16, 16), 6, seed=4, **wish))


def test_a_model_that_is_led_survives_the_disk(led, tmp_path):
    again = from_pretrained(led[0].save_pretrained(tmp_path))
    assert again.cfg == led[0].cfg and (again.pose is None, again.sound is None) == (led[0].pose is None, led[0].sound is None)
    assert torch.equal(again.predict(clips(2, 3, 16, 16), 6, **led[1][0]), led[0].predict(clips(2, 3, 16, 16), 6, **led[1][0]))
    for part in ('pose', 'sound'):
        assert (tmp_path / f'{part}.safetensors').is_file() == (getattr(again, part) is not None)
        if getattr(again, part) is not None:
            (tmp_path / f'{part}.safetensors').unlink()
            with pytest.raises(FileNotFoundError, match=f'lacks {part}.safetensors'): from_pretrained(tmp_path)


def test_a_batch_of_clips_with_wishes_of_their_own(led):
    given, wish = clips(2, 2, 3, 16, 16), led[1][0]
    together = led[0].predict(given, 6, samples=2, **wish)                              # one wish for all
    stacked = {name: torch.stack([value] * 2) if isinstance(value, torch.Tensor) else [value] * 2 for name, value in wish.items()}
    assert torch.equal(together, led[0].predict(given, 6, samples=2, **stacked))
    alone = led[0].predict(given[0], 6, samples=2, **wish)
    assert (alone.int() - together[0].int()).abs().max() <= 1                           # batches may be summed in another order


def test_the_path_is_meant_in_pixels_of_the_frames_that_were_given():
    "Frames three times the size with a path three times as long are the same wish; so is a wide picture whose sides are cut off."
    led, frames, way = model(pose=True), clips(2, 3, 1, 1).expand(2, 3, 16, 16), path(6)   # plain frames: no detail is lost in resizing
    small = led.predict(frames, 6, trajectory=way)
    large = frames.repeat_interleave(3, 2).repeat_interleave(3, 3)
    codes = [encode_clip(led.codec, as_clip(x, (16, 16))) for x in (frames, large)]
    assert torch.equal(*codes)
    assert torch.equal(led.predict(large, 6, trajectory=3 * way + 1), small)
    wide = torch.nn.functional.pad(frames, (8, 8))
    assert torch.equal(led.predict(wide, 6, trajectory=way + torch.tensor([8., 0.])), small)


def test_the_end_is_where_the_clip_ends_and_it_is_seen_before():
    "The last frame is decoded from the codes of the end frame: nearer to it than to what would have come; and frames before it already look at it."
    led, end = model(ENDS), clips(3, 16, 16)
    one, other = (led.predict(clips(2, 3, 16, 16), 5, end=frame) for frame in (end, 255 - end))
    assert not torch.equal(one[:4], other[:4])
    ceiling = as_bytes(reconstruct(led.codec, as_clip(torch.stack([end, end]), (16, 16)), CFG))[0, -1]
    distance = lambda a, b: (a.float() - b.float()).abs().mean()
    assert distance(one[-1], ceiling) < distance(one[-1], other[-1])
    assert led.predict(clips(2, 3, 16, 16), 1, end=end).shape == (1, 3, 16, 16)
    with pytest.raises(ValueError, match='must be 1 to 11 frames'): led.predict(clips(2, 3, 16, 16), 11, end=end)
    assert led.predict(clips(9, 3, 16, 16), 6, end=end).shape == (6, 3, 16, 16)         # what counts is the distance in view


def test_after_the_end_of_the_path_it_goes_on_by_itself():
    led = model(pose=True)
    frames = [list(islice(led.stream(clips(2, 3, 16, 16), seed=seed, trajectory=path(3)), 9)) for seed in (0, 1)]
    assert len(frames[0]) == 9 and not all(torch.equal(a, b) for a, b in zip(*frames))


def test_a_path_of_the_whole_clip_is_believed_for_the_given_frames_too():
    led, whole = model(pose=True), path(8)
    one, two = (led.predict(clips(2, 3, 16, 16), 6, trajectory=way) for way in (whole, torch.cat([15 - whole[:2], whole[2:]])))
    assert not torch.equal(one, two)
    with pytest.raises(ValueError, match='found one of 7 places'): led.predict(clips(2, 3, 16, 16), 6, trajectory=whole[:7])


def test_from_nothing():
    start, named = model(start=True), model(replace(CFG, labels=('a', 'b', 'c')), labels=3)
    assert start.predict(None, 4).shape == (4, 3, 16, 16) and start.predict(None, 4, samples=2).shape == (2, 4, 3, 16, 16)
    several = named.predict(None, 4, label=['a', 'c', 'b'])
    assert several.shape == (3, 4, 3, 16, 16) and torch.equal(named.predict(None, 4, label='a'), several[0])
    led = model(pose=True)                                                               # a path alone begins a clip (spec 12, B10)
    assert led.predict(None, 4, trajectory=path(4)).shape == (4, 3, 16, 16)


def test_step_by_step():
    "The first new frame is the same, later ones are made from what the decoded frame says, not from what was sampled."
    plain, again = model(), model(replace(CFG, step_by_step=True))
    one, two = (m.predict(clips(2, 3, 16, 16), 6, samples=2) for m in (plain, again))
    assert torch.equal(one[:, 0], two[:, 0]) and not torch.equal(one, two)


PLAIN = model
REFUSED = [
    (lambda: model(), dict(trajectory=path(3)), 'no pose estimator'), (lambda: model(), dict(sound=wave(5)), 'no sound codec'),
    (lambda: model(), dict(end=clips(3, 16, 16)), 'never saw an end frame'), (lambda: model(), dict(label=1), 'no classes'),
    (lambda: model(ENDS), {}, 'needs end='), (lambda: model(labels=3), {}, 'needs label='), (lambda: model(sound=True), {}, 'needs sound='),
    (lambda: model(sound=True), dict(sound=wave(1)), 'covers 1 of the 2'), (lambda: model(labels=3), dict(label='fly'), 'no class'),
    (lambda: model(labels=3), dict(label=3), 'knows the classes 0 to 2'), (lambda: model(pose=True), dict(trajectory=torch.zeros(4)), 'expected a path'),
    (lambda: model(pose=True), dict(trajectory=torch.full((3, 2), torch.nan)), 'finite'), (lambda: model(sound=True), dict(sound=torch.zeros(9, dtype=torch.long)), 'expected a waveform'),
    (lambda: model(ENDS), dict(end=torch.zeros(3, 16, 16)), 'expected uint8 frames')]


@pytest.mark.parametrize('build, wish, said', REFUSED, ids=[said for *_, said in REFUSED])
def test_what_cannot_be_done_is_said_in_one_sentence(build, wish, said):
    with pytest.raises(ValueError, match=said) as error: build().predict(clips(2, 3, 16, 16), 4, **wish)
    assert '\n' not in str(error.value) and str(error.value)[0].islower()


def test_parts_that_do_not_belong_together():
    led, heard = model(pose=True), model(sound=True)
    for parts in ((led.codec, led.transformer, CFG), (led.codec, led.transformer, CFG, None, heard.sound), (led.codec, heard.transformer, CFG, led.pose),
                  (heard.codec, heard.transformer, replace(CFG, labels=('a',)), None, heard.sound), (led.codec, led.transformer, CFG, led.pose, heard.sound)):
        with pytest.raises(ValueError, match='belong together|names were given|found both'): Predictor(*parts)


def test_nothing_to_begin_with():
    with pytest.raises(ValueError, match='cannot begin from nothing'): model().predict(None, 3)
    with pytest.raises(ValueError, match='needs a length'): next(model(ENDS).stream(clips(2, 3, 16, 16), end=clips(3, 16, 16)))


def test_a_model_that_learnt_from_known_positions_takes_the_given_ones_from_its_path():
    blind, line = model(replace(CFG, sees=False), pose=True), path(6)
    told = torch.cat([line[:1].expand(2, -1), line])
    assert torch.equal(blind.predict(clips(2, 3, 16, 16), 6, trajectory=line), blind.predict(clips(2, 3, 16, 16), 6, trajectory=told))
    assert not torch.equal(blind.predict(clips(2, 3, 16, 16), 6, trajectory=line), model(pose=True).predict(clips(2, 3, 16, 16), 6, trajectory=line))
