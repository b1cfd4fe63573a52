"The codec's loop learns, repeats itself, and does not notice that it was stopped."
from itertools import islice

import numpy as np
import pytest
import torch

from ccvs.codec.frame import FrameCodecCfg, build_frame_codec
from ccvs.core.config import override
from ccvs.data.clips import ArrayClips, batches
from ccvs.data.worlds.pusher import pusher
from ccvs.nn.critics import CriticCfg, build_clip_critic, build_image_critic
from ccvs.train.codec import PRESETS, CodecLoopCfg, moving_weight, revive_codes, sample_pairs, sample_windows, start_run, \
    train_codec
from ccvs.train.passes import clip_pass
from ccvs.train.pieces import latest_checkpoint, load_checkpoint, restore_parts, run_parts, save_checkpoint

SIZES = FrameCodecCfg(32, (8, 8, 16, 16), latent_width=16, codes=32, motion_widths=(8, 8, 8))
SHORT = override(PRESETS['tiny'], steps=9, critic_from=2, revive_every=3, r1_every=4)   # revivals, R1 and the critics' start all fall inside


pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(scope='module')
def clips():
    return ArrayClips(np.stack([pusher(seed, frames=8, size=32).frames for seed in range(4)]))


def fresh(cfg):
    torch.manual_seed(0)
    critics = CriticCfg(32, (8, 8, 8))
    return start_run(build_frame_codec(SIZES), build_image_critic(critics), build_clip_critic(critics), cfg)


@pytest.fixture(scope='module')
def whole_run(clips):
    "A run that was never stopped, and its records."
    torch.set_num_threads(1)
    run = fresh(SHORT)
    return run, list(train_codec(run, batches(clips, 4, seed=0), SHORT))


def everything(run):
    "All numbers a run carries, flat, by name."
    def walk(value, path):
        if isinstance(value, torch.Tensor): yield path, value
        elif isinstance(value, dict):
            for key, inner in value.items(): yield from walk(inner, f'{path}.{key}')
    return dict(walk(run_parts(run), ''))


def test_one_batch_is_learnt_by_heart(clips):
    cfg = CodecLoopCfg(steps=40, groups=2, clips=2, clip_length=3, max_stride=1, offsets=(1, 2), memory=2, perceptual=0., adversarial=0.,
                       critic_from=40, revive_every=5, ema=.9, elastic=PRESETS['worlds64'].elastic)
    batch = next(batches(clips, 2, seed=0))
    rows = list(train_codec(fresh(cfg), iter([batch] * 40), cfg))
    for name in ('recon', 'recon_clip'):
        first, last = (np.median([row[name] for row in part]) for part in (rows[:5], rows[-5:]))
        assert last < .6 * first, f'{name} went from {first} to {last}'


def test_what_moves_weighs_more():
    clip = torch.zeros(1, 5, 3, 8, 8)
    clip[0, 2, :, 3, 4] = 1.                                    # a spot that is there in one frame
    weight = moving_weight(clip, 8.)
    assert weight.shape == (1, 5, 1, 8, 8) and weight.mean() == pytest.approx(1)
    assert weight[0, 2, 0, 3, 4] == pytest.approx(9 * weight[0, 0, 0, 0, 0].item()) and len(weight.unique()) == 2
    assert torch.equal(moving_weight(clip, 0.), torch.ones(1, 5, 1, 8, 8))


def test_the_same_seed_gives_the_same_run_and_another_does_not(clips):
    cfg = override(SHORT, steps=4)
    rows = [list(train_codec(fresh(cfg), batches(clips, 4, seed=0), cfg, seed=seed)) for seed in (0, 0, 1)]
    assert rows[0] == rows[1]
    assert rows[0] != rows[2]


@pytest.mark.parametrize('stops', [(3, 6), (6, 7, 8), (2, 5)], ids=str)
def test_stopping_changes_nothing(clips, whole_run, stops, tmp_path):
    "At every stop all is thrown away but the checkpoint; the weights at the end agree to the last bit."
    whole, rows = whole_run
    run, pieces, start = fresh(SHORT), [], 0
    for stop in (*stops, SHORT.steps):
        loop = train_codec(run, batches(clips, 4, seed=0, start_step=start), SHORT, start=start)
        pieces += list(islice(loop, stop - start))
        save_checkpoint(tmp_path, stop, run_parts(run))
        saved, run = load_checkpoint(latest_checkpoint(tmp_path)), fresh(SHORT)
        restore_parts(run, saved.parts)
        start = saved.step
    assert pieces == rows
    after, wanted = everything(run), everything(whole)
    assert after.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(after[name], wanted[name])] == []


def test_windows_are_evenly_spaced_and_inside():
    clock = torch.arange(9.).view(1, 9, 1, 1, 1).expand(200, -1, 1, 1, 1)
    windows = sample_windows(clock, 3, 3, torch.Generator().manual_seed(0)).squeeze()
    strides = windows.diff(dim=1)
    assert (strides[:, :1] == strides).all() and set(strides.flatten().tolist()) == {1., 2., 3.}
    assert windows.min() == 0 and windows.max() == 8          # the ends are reached
    with pytest.raises(ValueError, match='at least that long'): sample_windows(clock, 10, 1, torch.Generator())


def test_pairs_are_two_frames_of_one_clip():
    clips = (torch.arange(50)[:, None] * 10 + torch.arange(4)).view(50, 4, 1, 1, 1)
    first, other = (frames.flatten() for frames in sample_pairs(clips, torch.Generator().manual_seed(0)))
    assert (first != other).all() and (first // 10 == torch.arange(50)).all() and (other // 10 == torch.arange(50)).all()
    assert len(set((other - first).tolist())) == 6             # every distance occurs


def test_revived_codes_lie_on_features_and_the_others_stay():
    run, feats = fresh(SHORT), torch.randn(2, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    before, unused = run.codec.quantizer.embedding.weight.clone(), torch.arange(32) < 5
    assert revive_codes(run, unused, feats, torch.Generator().manual_seed(0)) == 5
    after, rows = run.codec.quantizer.embedding.weight, feats.movedim(1, -1).flatten(0, -2)
    assert torch.equal(after[5:], before[5:]) and torch.equal(run.averaged.net.quantizer.embedding.weight[:5], after[:5])
    assert all((row == rows).all(1).any() for row in after[:5])


def test_the_first_frame_stays_in_memory(clips):
    "With keep_first the third decoded frame still sees the real one, and no longer the first decoded one."
    codec, seen = fresh(SHORT).codec, []
    clip = clips.window(0)[None, :5].float() / 127.5 - 1
    decode = codec.decode
    codec.decode = lambda z_q, contexts: seen.append(contexts) or decode(z_q, contexts)
    with torch.no_grad():
        first = codec.encode(clip[:, 0]).skips[0]
        for keep, wanted in ((0, [True, True, False, False]), (1, [True] * 4)):
            seen.clear()
            clip_pass(codec, clip, (1, 2), 2, keep_first=keep)
            assert [any(torch.allclose(context[0], first, atol=1e-6) for context in contexts) for contexts in seen] == wanted
            assert [len(contexts) for contexts in seen] == [1, 2, 2, 2]


def test_drawing_gets_rarer_once_the_memory_has_joined(clips):
    cfg = override(SHORT, memory_from=3, draw_every=2)
    rows = list(train_codec(fresh(cfg), batches(clips, 4, seed=0), cfg))
    assert ['recon_alone' in row for row in rows] == [True] * 3 + [False, True, False, True, False, True]


def test_the_squared_error_counts_for_the_step_but_is_not_recorded(clips):
    rows = [list(train_codec(fresh(cfg), batches(clips, 4, seed=0), cfg))
            for cfg in (override(SHORT, steps=5, memory_from=0, square=value) for value in (0., 9.))]
    assert rows[0][0]['recon'] == rows[1][0]['recon']
    assert rows[0][-1]['recon'] != rows[1][-1]['recon']
    assert set(rows[0][0]) == set(rows[1][0])


def test_a_decoder_that_goes_on_alone_leaves_the_codes(clips):
    cfg = override(PRESETS['tiny'], steps=3, critic_from=3, memory_from=0, copy_first=False, quantize_from=0, revive_every=0, decoder_only=True)
    run, frames = fresh(cfg), torch.from_numpy(pusher(9, frames=2, size=32).frames).float() / 127.5 - 1
    before = {name: p.clone() for name, p in run.codec.named_parameters()}
    codes = run.codec.quantize(run.codec.encode(frames).feats).codes
    list(train_codec(run, batches(clips, 4, seed=0), cfg))
    changed = {name.split('.')[0] for name, p in run.codec.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {'decoder'} and torch.equal(run.codec.quantize(run.codec.encode(frames).feats).codes, codes)


def test_codes_cannot_be_moved_while_the_decoder_goes_on_alone():
    with pytest.raises(ValueError, match='the codes must stay'): override(PRESETS['worlds64_last'], revive_every=50)
