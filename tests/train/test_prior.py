"The prior's loop learns, repeats itself, and does not notice that it was stopped."
from copy import deepcopy
from itertools import islice
from math import log

import pytest
import torch

from ccvs.control.layout import training_segments
from ccvs.core.config import override
from ccvs.prior.transformer import PRESETS as TRANSFORMERS, build_transformer, plain_segments
from ccvs.train.pieces import latest_checkpoint, load_checkpoint, restore_parts, run_parts, save_checkpoint
from ccvs.train.prior import PRESETS, PriorLoopCfg, encode_clips, held_out_loss, lean_on_previous, rate_at, start_prior, train_prior

SHORT = override(PRESETS['tiny'], steps=12, warmup=4)


pytestmark = pytest.mark.usefixtures('one_thread')


def fresh(cfg):
    return start_prior(build_transformer(TRANSFORMERS['tiny'], torch.Generator().manual_seed(0)), cfg)


def toy_codes(clips=6, frames=4):
    return torch.randint(32, (clips, frames, 4, 4), generator=torch.Generator().manual_seed(1)).short()


def test_a_few_clips_are_learnt_by_heart():
    "Random codes cannot be guessed, only remembered: every nat below log 32 is memory."
    cfg = PriorLoopCfg(steps=120, batch=4, lr=3e-3, warmup=10, weight_decay=0., ema=.9)
    run, codes = fresh(cfg), toy_codes(2)
    rows = list(train_prior(run, codes, cfg))
    assert rows[0]['loss'] == pytest.approx(log(32), abs=.2)    # fresh weights know nothing
    assert rows[-1]['loss'] < .5 * log(32)
    assert held_out_loss(run.averaged.net, codes) < .6 * log(32) < held_out_loss(run.averaged.net, toy_codes(4)[2:])


def test_the_same_seed_gives_the_same_run_and_another_does_not():
    cfg = override(SHORT, steps=4)
    rows = [list(train_prior(fresh(cfg), toy_codes(), cfg, seed=seed)) for seed in (0, 0, 1)]
    assert rows[0] == rows[1]
    assert rows[0] != rows[2]


@pytest.mark.parametrize('stops', [(3, 5, 8), (1, 2, 3)], ids=str)
def test_stopping_changes_nothing(stops, tmp_path):
    "At every stop all is thrown away but the checkpoint; the weights at the end agree to the last bit."
    whole, codes = fresh(SHORT), toy_codes()
    rows = list(train_prior(whole, codes, SHORT))
    run, pieces, start = fresh(SHORT), [], 0
    for stop in (*stops, SHORT.steps):
        pieces += list(islice(train_prior(run, codes, SHORT, start=start), stop - start))
        save_checkpoint(tmp_path, stop, run_parts(run))
        saved, run = load_checkpoint(latest_checkpoint(tmp_path)), fresh(SHORT)
        restore_parts(run, saved.parts)
        start = saved.step
    assert pieces == rows
    for after, wanted in zip((run.net, run.averaged.net), (whole.net, whole.averaged.net)):
        assert all(torch.equal(a, b) for a, b in zip(after.state_dict().values(), wanted.state_dict().values(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(whole.net.parameters(), whole.averaged.net.parameters()))


def test_the_rate_rises_and_falls():
    cfg = PriorLoopCfg(steps=100, warmup=10, decay=True)
    rates = [rate_at(step, cfg) for step in range(100)]
    assert rates[0] == .1 and rates[9] == rates[10] == 1 and rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True) and rates[-1] == pytest.approx(.05, abs=.002)
    assert {rate_at(step, PriorLoopCfg()) for step in (0, 7, 199_999)} == {1.}     # published: constant


def test_the_held_out_loss_does_not_depend_on_the_batch():
    net, codes = fresh(SHORT).net, toy_codes(5)
    assert held_out_loss(net, codes, 2) == pytest.approx(held_out_loss(net, codes, 5), rel=1e-5)   # float32 sums in another order


def test_codes_of_mirrored_clips_come_last():
    from ccvs.codec.frame import PRESETS as CODECS, build_frame_codec
    from ccvs.data.clips import ArrayClips
    torch.manual_seed(0)
    codec, clips = build_frame_codec(CODECS['tiny']).eval(), torch.randint(256, (3, 2, 3, 32, 32), dtype=torch.uint8).numpy()
    with torch.no_grad(): codec.quantizer.embedding.weight.normal_()
    codes = encode_clips(codec, ArrayClips(clips), mirror=True, at_once=2)
    assert codes.shape == (6, 2, 4, 4) and codes.dtype == torch.int16
    assert torch.equal(codes[:3], encode_clips(codec, ArrayClips(clips), at_once=3))
    assert torch.equal(codes[3:], encode_clips(codec, ArrayClips(clips[..., ::-1].copy())))
    assert not torch.equal(codes[3:], codes[:3])


def test_a_leaning_transformer_repeats_what_stands_still():
    "Frames of random codes that never change: after the first, every code is the likeliest one, and no gradient step was taken."
    cfg = override(TRANSFORMERS['worlds64'], vocab=256, grid=(4, 4), capacity=128)
    net = build_transformer(cfg, torch.Generator().manual_seed(0))
    still = torch.randint(256, (4, 16), generator=torch.Generator().manual_seed(1)).repeat(1, 8)
    torch.manual_seed(0)
    with torch.no_grad():
        before, after = (model(plain_segments(still, cfg))[:, 16:-1].argmax(-1) == still[:, 17:] for model in (net, lean_on_previous(deepcopy(net))))
    assert before.float().mean() < .1
    assert after.float().mean() > .9     # the first slot of a frame is looked up one frame too late


def test_leaning_needs_four_heads():
    with pytest.raises(ValueError, match='4 heads'): lean_on_previous(build_transformer(override(TRANSFORMERS['tiny'], heads=2)))


def test_given_frames_are_read_but_not_learnt():
    cfg, codes = TRANSFORMERS['tiny'], toy_codes().flatten(1).long()
    net = build_transformer(cfg, torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = net(plain_segments(codes, cfg))[:, 31:-1]
        wanted = torch.nn.functional.cross_entropy(logits.flatten(0, 1), codes[:, 32:].flatten())
        assert net.loss(training_segments(codes, [], cfg, 2)) == pytest.approx(wanted.item(), abs=1e-5)
        assert net.loss(training_segments(codes, [], cfg, 0)) == net.loss(plain_segments(codes, cfg))
    assert held_out_loss(net, toy_codes(), given=2) == pytest.approx(wanted.item(), abs=1e-5)


def test_a_leaning_transformer_is_not_disturbed_by_control_tokens():
    "Two tokens before every frame, and an end frame and a start token before them all: still the previous frame is repeated."
    from ccvs.control.end_frame import end_prefix
    from ccvs.control.layout import join_prefixes, start_prefix, weave
    cfg = override(TRANSFORMERS['worlds64'], vocab=256, grid=(4, 4), frames=12, capacity=160, control_vocab=32, control_tokens=2, start=True)
    source = torch.Generator().manual_seed(1)
    still, end = torch.randint(256, (4, 16), generator=source).repeat(1, 8), torch.randint(256, (4, 4, 4), generator=source)
    torch.manual_seed(0)
    net = lean_on_previous(build_transformer(cfg, torch.Generator().manual_seed(0)))
    before = join_prefixes(start_prefix(cfg, 4, still.device), end_prefix(end, 9, cfg))(0)
    segments = training_segments(weave(still, torch.randint(32, (4, 8, 2), generator=source), cfg), before, cfg)
    with torch.no_grad(): logits = net(segments)
    codes = torch.cat([part.tokens if part.table == 0 else torch.full_like(part.tokens, -1) for part in segments], 1)
    learnt = torch.arange(codes.shape[1]) >= 1 + 16 + 18 + 2                  # after the prefix and the first frame
    right = (logits[:, :-1, :256].argmax(-1) == codes[:, 1:])[:, learnt[1:] & (codes[0, 1:] >= 0)]
    assert right.float().mean() > .9
