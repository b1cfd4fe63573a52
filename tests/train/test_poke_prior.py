"""Loops of the second stage: they learn, repeat and resume exactly (iPOKE spec 4.10, 5)."""
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from ccvs.codec.image import PRESETS as IMAGES, build_image_encoder
from ccvs.codec.poke import PRESETS as ENCODERS, build_poke_encoder
from ccvs.codec.video import PRESETS as CODECS, build_video_codec
from ccvs.control.conditioning import Conditioning
from ccvs.control.poke import PRESETS as POKES
from ccvs.core.config import override
from ccvs.nn.video.critics import PatchCritic, TemporalCritic
from ccvs.prior.cinn import PRESETS as CINNS, Cinn
from ccvs.prior.cvae import PRESETS as VAES, build_poke_vae
from ccvs.prior.flow_matching import PRESETS as FLOWS, FlowMatching
from ccvs.train.pieces import restore_parts, run_parts
from ccvs.train.poke.video_codec import CRITICS
from ccvs.train.poke_prior import cinn, cvae, flow_matching
from ccvs.train.poke_prior.pairs import MotionClips, poke_batch, render_motion_clips


@pytest.fixture(scope='module')
def data(): return render_motion_clips('plant', range(6), 5, 32)


@pytest.fixture(scope='module')
def frozen():
    torch.manual_seed(0)
    codec = build_video_codec(override(CODECS['tiny'], deterministic=True))
    conditioning = Conditioning(build_image_encoder(IMAGES['tiny']), build_poke_encoder(override(ENCODERS['tiny'], poke_channels=3)))
    return cinn.Frozen(*(part.eval().requires_grad_(False) for part in (codec, conditioning)))


def batch_at(data, batch=4): return lambda step: poke_batch(data, POKES['tiny'], batch, 0, step)


def cinn_run(cfg):
    torch.manual_seed(1)
    return cinn.start_cinn(Cinn(CINNS['tiny']), cfg)


def test_batches_repeat_and_idle_items_stand_still(data):
    one, two = (poke_batch(data, POKES['tiny'], 12, 5, step=7) for _ in range(2))
    assert all(a.equal(b) for a, b in zip(one, two)) and not one.poke.equal(poke_batch(data, POKES['tiny'], 12, 5, step=8).poke)
    always = override(POKES['tiny'], idle=1)
    idle = poke_batch(data, always, 6, 0, 0)
    assert not idle.motion.any() and idle.clips.eq(idle.clips[:, :1]).all() and idle.poke[:, :2].flatten(1).any(1).all()
    assert idle.clips.min() >= -1 and idle.clips.max() <= 1


def test_a_clip_without_motion_is_passed_over(data):
    some = MotionClips(data.frames[:2], torch.stack([torch.zeros_like(data.motion[0]), data.motion[1]]))
    for step in range(4): assert poke_batch(some, override(POKES['tiny'], idle=0), 2, 0, step).motion.eq(data.motion[1]).all()
    with pytest.raises(ValueError, match='nothing moves'): poke_batch(some._replace(motion=0 * some.motion), POKES['tiny'], 1, 0, 0)


def test_rates_rise_and_fall():
    cfg = cinn.CinnLoopCfg(steps=20, lr=1e-3, warmup=4)
    rates = [cinn.rate_at(step, cfg) for step in range(21)]
    assert rates[:5] == [0, .25e-3, .5e-3, .75e-3, 1e-3] and rates[12] == pytest.approx(.5e-3) and rates[20] == 0


def test_cinn_learns(data, frozen):
    cfg = cinn.CinnLoopCfg(60, 4, lr=3e-3, warmup=3)
    rows = list(cinn.train_cinn(cinn_run(cfg), frozen, batch_at(data), cfg))
    assert rows[0]['rate'] == 0 and rows[-1]['loss'] < rows[0]['loss'] - 1


def test_the_first_batch_fits_the_norms_and_changes_nothing_else(data, frozen):
    cfg = cinn.CinnLoopCfg(20, 4, warmup=3)
    run = cinn_run(cfg)
    next(cinn.train_cinn(run, frozen, batch_at(data), cfg))
    batch = batch_at(data)(0)
    latent, cond = cinn.latent_and_condition(frozen, batch, cinn.posterior_noise(frozen, 4, 0, 0))
    residual, _ = run.net(latent, cond)
    assert abs(residual.mean()) < .1 and abs(residual.std() - 1) < .3
    assert_close(run.net(latent, -cond)[0], residual)                                    # every network still says nothing


def test_cinn_resumes_exactly(data, frozen):
    cfg = cinn.CinnLoopCfg(6, 4, lr=3e-3, warmup=2)
    whole = cinn_run(cfg)
    rows = list(cinn.train_cinn(whole, frozen, batch_at(data), cfg))
    half = cinn_run(cfg)
    for _, row in zip(range(3), cinn.train_cinn(half, frozen, batch_at(data), cfg)): pass
    again = cinn_run(cfg)
    restore_parts(again, run_parts(half))
    assert list(cinn.train_cinn(again, frozen, batch_at(data), cfg, start=3)) == rows[3:]
    for a, b in zip(whole.net.state_dict().values(), again.net.state_dict().values()): assert a.equal(b)


def flow_run(cfg):
    torch.manual_seed(1)
    return flow_matching.start_flow(FlowMatching(FLOWS['tiny']), torch.randn(32, 8, 4, 4), cfg)


def test_flow_matching_resumes_exactly(data, frozen):
    cfg = override(flow_matching.PRESETS['tiny'], steps=6)
    whole = flow_run(cfg)
    rows = list(flow_matching.train_flow(whole, frozen, batch_at(data), cfg))
    half = flow_run(cfg)
    for _, row in zip(range(3), flow_matching.train_flow(half, frozen, batch_at(data), cfg)): pass
    again = flow_run(cfg)
    restore_parts(again, run_parts(half))
    assert list(flow_matching.train_flow(again, frozen, batch_at(data), cfg, start=3)) == rows[3:]
    for a, b in zip(whole.averaged.net.parameters(), again.averaged.net.parameters()): assert a.equal(b)


def test_flow_matching_learns(data, frozen):
    cfg = override(flow_matching.PRESETS['tiny'], steps=100)
    torch.manual_seed(1)
    latents, _ = cinn.latent_and_condition(frozen, batch_at(data, 32)(0), torch.zeros(32, 8, 4, 4))
    rows = list(flow_matching.train_flow(flow_matching.start_flow(FlowMatching(FLOWS['tiny']), latents, cfg), frozen, batch_at(data), cfg))
    assert sum(r['loss'] for r in rows[-10:]) < .85 * sum(r['loss'] for r in rows[:10])


def vae_run(cfg):
    torch.manual_seed(1)
    patch, clip = CRITICS['tiny']
    return cvae.start_vae_run(build_poke_vae(VAES['tiny']), TemporalCritic(clip, 32), PatchCritic(patch), cfg)


def test_the_baseline_learns_and_resumes_exactly(data):
    cfg = cvae.PRESETS['tiny']
    cfg = replace(cfg, video=replace(cfg.video, steps=24, clip_from=18, patch_from=18), ramp=12)
    whole = vae_run(cfg)
    rows = list(cvae.train_vae(whole, batch_at(data, 2), cfg))
    assert [r['kl_weight'] for r in rows[:3]] == pytest.approx([0, .01 / 12, .02 / 12]) and rows[-1]['kl_weight'] == .01
    assert sum(r['l1'] for r in rows[-4:]) < sum(r['l1'] for r in rows[:4])
    assert 'fooled_clip' in rows[-1] and 'fooled_clip' not in rows[0]
    half = vae_run(cfg)
    for _, row in zip(range(20), cvae.train_vae(half, batch_at(data, 2), cfg)): pass
    again = vae_run(cfg)
    restore_parts(again, run_parts(half))
    assert list(cvae.train_vae(again, batch_at(data, 2), cfg, start=20)) == rows[20:]
