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
from ccvs.train.prior import PRESETS, PriorLoopCfg, disturb, encode_clips, held_out_loss, rate_at, sample_codes, start_prior, train_prior

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


def test_given_frames_are_read_but_not_learnt():
    cfg, codes = TRANSFORMERS['tiny'], toy_codes().flatten(1).long()
    net = build_transformer(cfg, torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = net(plain_segments(codes, cfg))[:, 31:-1]
        wanted = torch.nn.functional.cross_entropy(logits.flatten(0, 1), codes[:, 32:].flatten())
        assert net.loss(training_segments(codes, [], cfg, 2)) == pytest.approx(wanted.item(), abs=1e-5)
        assert net.loss(training_segments(codes, [], cfg, 0)) == net.loss(plain_segments(codes, cfg))
    assert held_out_loss(net, toy_codes(), given=2) == pytest.approx(wanted.item(), abs=1e-5)


def test_stale_codes_are_read_but_the_true_ones_are_asked_for():
    "With everything stale each frame reads as the one before it; given frames stay true; codes that moved count more."
    from ccvs.control.layout import weave
    cfg = override(TRANSFORMERS['tiny'], grid=(2, 2), control_vocab=8, control_tokens=1)
    codes = torch.arange(4).repeat_interleave(4)[None].repeat(2, 1)
    codes[0, 8:12] = codes[0, 4:8]                                       # the first clip stands still once
    segments = training_segments(weave(codes, torch.arange(8).view(2, 4, 1), cfg), [], cfg, given=2)
    torch.manual_seed(0)
    seen, weight = disturb(segments, cfg.unit, 1e9, 3.)
    frames = lambda parts: torch.cat([part.tokens for part in parts if part.table == 0], 1).view(2, 4, 4)[..., 0].tolist()
    assert frames(segments) == [[0, 1, 1, 3], [0, 1, 2, 3]] and frames(seen) == [[0, 1, 1, 1], [0, 1, 1, 2]]
    assert weight.view(2, 4, 5)[..., 1:].mean(-1).tolist() == [[1, 1, 1, 3], [1, 1, 3, 3]] and (weight.view(2, 4, 5)[..., 0] == 1).all()
    assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(segments, seen) if a.table != 0)


def test_nothing_stale_and_nothing_heavier_changes_no_loss():
    net, segments = fresh(SHORT).net, plain_segments(toy_codes().flatten(1).long(), TRANSFORMERS['tiny'])
    seen, weight = disturb(segments, 16, 0., 1.)
    assert net.loss(segments, seen, weight).item() == pytest.approx(net.loss(segments).item(), abs=1e-6)
    seen, weight = disturb(segments, 16, 1., 1.)
    assert abs(net.loss(segments, seen, weight).item() - net.loss(segments).item()) > 1e-4


def test_windows_may_leave_out_frames_and_control_tokens_go_with_them():
    from ccvs.control.layout import token_control
    codes = torch.arange(3 * 10).view(3, 10, 1, 1)
    place, source, found = token_control(codes.flatten(2)), torch.Generator().manual_seed(0), set()
    for _ in range(40):
        windows = sample_codes(codes, 5, 4, source, max_stride=9)
        steps = windows.codes[..., 0, 0].diff(dim=1)
        assert (steps == windows.stride).all() and torch.equal(place(windows)[0].control, windows.codes.flatten(2))
        found.add(windows.stride)
    assert found == {1, 2, 3}                                             # a fourth would not fit into ten frames


def test_a_run_that_is_disturbed_goes_on_where_it_stopped():
    cfg = override(SHORT, stale=.5, moving=2., max_stride=2)
    whole = list(train_prior(fresh(cfg), toy_codes(frames=6), cfg, frames=3))
    run = fresh(cfg)
    part = list(islice(train_prior(run, toy_codes(frames=6), cfg, frames=3), 5))
    assert part + list(train_prior(run, toy_codes(frames=6), cfg, frames=3, start=5)) == whole
