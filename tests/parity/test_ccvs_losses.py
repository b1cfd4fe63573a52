"""One turn of codec training gives the recorded terms, frames and gradients of the official losses (CCVS spec 5.4-6.3)."""
from functools import cache

import pytest
import torch

from ccvs.codec.frame import FrameCodecCfg, build_frame_codec
from ccvs.nn.critics import CriticCfg, build_clip_critic, build_image_critic
from ccvs.nn.elastic import ElasticView
from ccvs.nn.losses import PerceptualLoss, critic_loss, generator_loss, r1_penalty, vgg_trunk
from ccvs.nn.motion_losses import motion_recovery_loss, motion_target, occlusion_loss
from ccvs.train.codec import clip_pass, image_pass

from .cases import load_case

PARTS = dict(encoder='net_e.', quantizer='net_q.', decoder='net_g.')


@cache
def recorded(name):
    "A case, the codec and the perceptual loss it was recorded with."
    case = load_case(f'ccvs/{name}')
    codec = build_frame_codec(FrameCodecCfg(16, (8, 8, 16), latent_width=16, codes=32))
    for part, prefix in PARTS.items(): getattr(codec, part).load_state_dict(case.weights(prefix))
    weights = {key.split('.', 1)[1]: value for key, value in case.weights('vgg_loss_img.vgg.').items()}
    widths = tuple(len(weights[f'{layer}.bias']) for layer in (0, 5, 10, 19, 28))
    trunk = vgg_trunk(widths)
    trunk.load_state_dict(weights)
    return case, codec, PerceptualLoss(trunk)


def recorded_critic(case, prefix):
    critic = (build_image_critic if prefix == 'net_di.' else build_clip_critic)(CriticCfg(16, (8, 8, 16)))
    critic.load_state_dict(case.weights(prefix))
    return critic


def check_gradients(call, loss, parts):
    "The norm of every gradient, and the gradients that were recorded whole; `parts` are prefix -> network."
    named = {prefix + name: p for prefix, net in parts.items() for name, p in net.named_parameters()}
    assert sorted(named) == sorted(call.record['grad_norm_parameter_order'])
    found = dict(zip(named, torch.autograd.grad(loss, named.values(), allow_unused=True)))
    found = {name: torch.zeros_like(named[name]) if grad is None else grad for name, grad in found.items()}
    call.check('grad_norm', torch.stack([found[name].norm() for name in call.record['grad_norm_parameter_order']]))
    whole = [name for name in call.outputs if name.startswith('grad/')]
    assert whole
    for name in whole: call.check(name, found[name.removeprefix('grad/')])


def check_terms(call, terms):
    assert {f'terms/{name}' for name in terms} == {name for name in call.outputs if name.startswith('terms/')}
    for name, value in terms.items(): call.check(f'terms/{name}', value.view(call.outputs[f'terms/{name}'].value.shape))


def image_inputs(case):
    "Groups are recorded as given frame, other frame, view."
    x = case.calls['generator'].inputs
    given, other, view = x['img'].unflatten(0, (-1, 3)).unbind(1)
    return other, ElasticView(given, view, x['flow_img'], x['mask_img'].bool())


def test_image_turn_of_the_generator():
    case, codec, perceptual = recorded('loss_image')
    call, critic = case.calls['generator'], recorded_critic(case, 'net_di.')
    other, view = image_inputs(case)
    made = image_pass(codec, other, view)
    call.check('fake_img', made.fake)
    quantized = codec.quantize(made.feats).z_q.unflatten(0, (-1, 3))[:, 1:].flatten(0, 1)
    call.check('fake_z', quantized)
    terms = dict(quant_img=made.quantization, mask_rec_img=occlusion_loss(made.occlusion, view.masked),
                 elastic_flow_rec_img=motion_recovery_loss(made.motions, view.motion, view.masked),
                 rec_img=(made.real - made.fake).abs().mean(), vgg_img=10 * perceptual(made.fake, made.real),
                 gen_img=generator_loss(critic(made.fake)))
    check_terms(call, terms)
    loss = sum(terms.values())
    call.check('loss', loss)
    check_gradients(call, loss, {prefix: getattr(codec, part) for part, prefix in PARTS.items()})


def test_motion_targets_of_every_level():
    case, _, _ = recorded('loss_image')
    call, (_, view) = case.calls['generator'], image_inputs(case)
    for level, side in enumerate((4, 8, 16)):
        target = motion_target(view.motion, view.masked, (side, side), .25)
        call.check(f'flow_target.{level}', target.motion)
        call.check(f'no_occlusion_mask.{level}', target.seen)


def test_clip_turn_of_the_generator():
    case, codec, perceptual = recorded('loss_video')
    call, critic = case.calls['generator'], recorded_critic(case, 'net_dv.')
    clip = call.inputs['vid']
    made = clip_pass(codec, clip, (1, 2, 3, 4), 4)
    call.check('fake_vid', made.fake)
    call.check('fake_z', codec.quantize(codec.encode(clip.flatten(0, 1)).feats).z_q.unflatten(0, clip.shape[:2]))
    fake, real = made.fake[:, 1:].flatten(0, 1), clip[:, 1:].flatten(0, 1)
    terms = dict(quant_vid=made.quantization, rec_vid=(real - fake).abs().mean(), vgg_vid=10 * perceptual(fake, real),
                 gen_vid=generator_loss(critic(made.fake.transpose(1, 2))))
    check_terms(call, terms)
    loss = sum(terms.values())
    call.check('loss', loss)
    check_gradients(call, loss, {prefix: getattr(codec, part) for part, prefix in PARTS.items()})


def critic_samples(name):
    "The critic of a case with the real and the recorded made samples, as it reads them."
    case, _, _ = recorded(name)
    x = case.calls['discriminator'].inputs
    if name == 'loss_video': return case, 'net_dv.', x['vid'].transpose(1, 2), x['fake_vid'].transpose(1, 2)
    return case, 'net_di.', x['img'].unflatten(0, (-1, 3))[:, 1:].flatten(0, 1), x['fake_img']


@pytest.mark.parametrize('name, term', [('loss_image', 'dis_img'), ('loss_video', 'dis_vid')])
def test_step_of_the_critic(name, term):
    case, prefix, real, fake = critic_samples(name)
    call, critic = case.calls['discriminator'], recorded_critic(case, prefix)
    loss = critic_loss(critic(real), critic(fake))
    check_terms(call, {term: loss})
    call.check('loss', loss)
    check_gradients(call, loss, {prefix: critic})


@pytest.mark.parametrize('name, term', [('loss_image', 'dis_r1_loss'), ('loss_video', 'vdis_r1_loss')])
def test_r1_step_of_the_critic(name, term):
    case, prefix, real, _ = critic_samples(name)
    call, critic = case.calls['discriminator_r1'], recorded_critic(case, prefix)
    loss = case.options['q_lambda_r1'] / 2 * case.options['q_d_reg_every'] * r1_penalty(critic, real)
    check_terms(call, {term: loss})
    call.check('loss', loss.view(1))
    check_gradients(call, loss, {prefix: critic})
