"""The frame codec reproduces the recorded outputs of the official networks."""
from functools import cache

import pytest
import torch
from torch import nn

from ccvs.codec.frame import FrameCodecCfg, build_frame_codec
from ccvs.nn.correlation import correlation
from ccvs.nn.critics import BiasAct, CriticCfg, build_clip_critic, build_image_critic, clip_block, critic_act, critic_block, \
    critic_layer
from ccvs.nn.layers import Blur, BlurUp, EqualConv2d, EqualLinear, conv_layer, down_layer, res_down, res_up, up_layer
from ccvs.nn.losses import PerceptualLoss, critic_loss, generator_loss, vgg_trunk
from ccvs.nn.quantize import perplexity
from ccvs.nn.warp import warp
from ccvs.synth.rollout import rollout

from .cases import load_case

AE = ['ae_image_4lvl', 'ae_image_rect_proj', 'ae_image_nomemory', 'ae_video_context', 'ae_video_nomemory']


@cache
def recorded_codec(name):
    "A recorded autoencoder case, and the codec it describes with its weights."
    case = load_case(f'ccvs/{name}')
    base = case.record['cli'].split()
    def flag(name, kind=int, default=None):
        if f'--{name}' not in base: return default
        rest = base[base.index(f'--{name}') + 1:]
        stop = next((i for i, word in enumerate(rest) if word.startswith('--')), len(rest))
        values = tuple(kind(word) for word in rest[:stop])
        return values if len(values) > 1 else values[0] if values else True
    rows = flag('max_dim')
    cfg = FrameCodecCfg((rows, int(rows * flag('aspect_ratio', float))), tuple(flag('q_necf') * m for m in flag('q_necf_mult')),
                        flag('q_z_size'), flag('q_z_num'), flag('q_inter_p', float, .5), memory=flag('q_use_inter', default=False))
    codec = build_frame_codec(cfg).eval()
    for part, prefix in ((codec.encoder, 'net_e.'), (codec.quantizer, 'net_q.'), (codec.decoder, 'net_g.')):
        part.load_state_dict(case.weights(prefix))
    return case, codec


@pytest.fixture(scope='module', params=AE)
def recorded(request):
    return recorded_codec(request.param)


def calls(case, kind): return [call for call in case.calls.values() if call.kind == kind]


@torch.no_grad()
def test_encoder(recorded):
    case, codec = recorded
    for call in calls(case, 'ae.encode'):
        (frames,) = call.inputs.values()
        lead = frames.shape[:-3]
        feats, skips = codec.encode(frames.flatten(0, -4))
        call.check('z', codec.quantize(feats).z_q.unflatten(0, lead))   # recorded after the quantizer
        for i, skip in enumerate(skips): call.check(f'inter.{i}', skip.unflatten(0, lead))
        call.check('code', codec.quantize(feats).codes.view(len(frames), -1))


@torch.no_grad()
def test_quantizer(recorded):
    case, codec = recorded
    for call in calls(case, 'ae.quantize'):
        z_q, loss, codes = codec.quantize(call.inputs['z'])
        call.check('z_q', z_q)
        call.check('loss', loss)
        call.check('perplexity', perplexity(codes, codec.cfg.codes))
        call.check('indices', codes.view(-1, 1))
        call.check('embed_code', codec.lookup(call.inputs['code'].view(-1, *codec.cfg.grid)).flatten(2).mT)


@torch.no_grad()
def test_generator(recorded):
    case, codec = recorded
    for call in calls(case, 'ae.generator'):
        out = codec.decode(call.inputs['z_q'], [call.inputs[name] for name in call.args['contexts']] or None)
        call.check('out', out.frames)
        for i, (motion, occlusion) in enumerate(zip(out.motions, out.occlusions)):
            call.check(f'flows.{i}', motion)
            call.check(f'occs.{i}', occlusion)
        assert {name.split('.')[0] for name in call.outputs} <= {'out', 'flows', 'occs', 'inter_dec'}


@torch.no_grad()
def test_reconstruction_with_own_skips(recorded):
    case, codec = recorded
    for call in calls(case, 'ae.decode_images'):
        contexts = [call.inputs['inter']] if codec.cfg.memory else None
        call.check('img', codec.decode(codec.lookup(call.inputs['code'].view(-1, *codec.cfg.grid)), contexts).frames)


def rolled(codec, call, clip, length, **more):
    "Frames of a recorded video call, as (N, T, 3, H, W), and the codes it was given."
    count = call.args['context_frames']
    offsets = tuple(call.options.get('q_skip_context', (1,)))
    codes = call.inputs['code'].view(len(clip), -1, *codec.cfg.grid)
    keep = call.options['q_n_first'] if call.options.get('q_keep_first') else 0
    frames = rollout(codec, codes[:, :length].unbind(1), clip[:, :count] if count else None,
                     memory=call.options.get('q_skip_memory', 1), offsets=offsets, keep_first=keep, **more)
    return torch.stack(list(frames), 1)


VIDEO_CALLS = [(name, call) for name in ('ae_video_context', 'ae_video_nomemory')
               for call in load_case(f'ccvs/{name}').calls if call not in ('vid_encoder', 'vid_step_decoder')]


@torch.no_grad()
@pytest.mark.parametrize('name, call_name', VIDEO_CALLS, ids=lambda value: value)
def test_rollout(name, call_name):
    case, codec = recorded_codec(name)
    call, clip = case.calls[call_name], case.calls['vid_encoder'].inputs['vid']
    p2p = call.args['end_context']
    call.check('vid', rolled(codec, call, clip, clip.shape[1] - p2p, end=clip[:, -1] if p2p else None))


@torch.no_grad()
def test_step_decoder():
    "One frame per call officially; here the generator just goes on."
    case, codec = recorded_codec('ae_video_context')
    call, clip = case.calls['vid_step_decoder'], case.calls['vid_encoder'].inputs['vid']
    frames = rolled(codec, call, clip, 1 + call.args['steps'])[:, 1:]
    for i in range(call.args['steps']):
        call.check(f'step{i}/vid', frames[:, i:i + 1])
        call.check(f'step{i}/code', codec.quantize(codec.encode(frames[:, i]).feats).codes.flatten(1))
    kept = [codec.encode(frames[:, t]).skips for t in (-2, -1)]
    for level in range(3): call.check(f'inter_last.{level}', torch.stack([skips[level] for skips in kept], 1))


LAYERS = load_case('ccvs/layers')
OPS = load_case('ccvs/ops_elementary')


def ae_layer(width_in, width_out, kernel, downsample=False, upsample=False, activate=True, bias=True):
    "The layer the official arguments describe."
    if kernel == 3: return down_layer(width_in, width_out) if downsample else up_layer(width_in, width_out) if upsample \
        else conv_layer(width_in, width_out, 3, activate)
    if downsample: return nn.Sequential(Blur(1, stride=2), EqualConv2d(width_in, width_out, 1, bias=False))
    if upsample: return nn.Sequential(EqualConv2d(width_in, width_out, 1, bias=False), BlurUp())
    return conv_layer(width_in, width_out, 1, activate)


@torch.no_grad()
@pytest.mark.parametrize('call', [c for c in LAYERS.calls.values() if c.kind.startswith('layer.ae')], ids=lambda c: c.name)
def test_layers(call):
    args = dict(call.args)
    sizes = args.pop('positional')
    if call.kind == 'layer.ae.ConvLayer': layer = ae_layer(*sizes, **args)
    elif call.kind == 'layer.ae.EqualLinear': layer = EqualLinear(*sizes)
    else: layer = (res_down if args.get('downsample') else res_up)(*sizes)
    layer.load_state_dict(LAYERS.weights(f'{call.name}.'))
    call.check('y', layer(call.inputs['x']))


@pytest.mark.parametrize('call', calls(OPS, 'op.blur'), ids=lambda c: c.name)
def test_blur(call):
    "Only the blurs the networks use; the kernel is the recorded one."
    if call.args['up'] not in (1, [1, 1], (1, 1)) or call.inputs['kernel'].shape != (4, 4): pytest.skip('never used by the networks')
    pad = call.args['pad']
    blur = Blur(pad if isinstance(pad, int) else pad[0])
    blur.kernel = call.inputs['kernel']
    call.check('y', blur(call.inputs['x']))


@pytest.mark.parametrize('call', calls(OPS, 'op.correlation'), ids=lambda c: c.name)
def test_correlation_and_its_gradients(call):
    s = call.args['stride']
    first, second = (call.inputs[name].clone().requires_grad_() for name in ('first', 'second'))
    out = correlation(first[..., ::s, ::s], second[..., ::s, ::s])
    out.backward(call.inputs['grad_out'])
    for name, found in zip(call.outputs, (out, first.grad, second.grad), strict=True): call.check(name, found)


@pytest.mark.parametrize('call', calls(OPS, 'op.backwarp'), ids=lambda c: c.name)
def test_warp(call):
    (name,) = call.outputs
    call.check(name, warp(call.inputs['x'], call.inputs['flow']))


@pytest.mark.parametrize('call', calls(OPS, 'op.fused_leaky_relu'), ids=lambda c: c.name)
def test_critic_activation(call):
    act = BiasAct(len(call.inputs['bias']))
    act.bias.data = call.inputs['bias']
    call.check('y', act(call.inputs['x']))


CRITIC_LAYERS = {'dis_conv3': lambda: critic_layer(4, 6, 3), 'dis_res': lambda: critic_block(4, 6),
                 'dis_conv3_down': lambda: critic_block(6, 6).conv2, 'dis3d_res': lambda: clip_block(4, 6),
                 'dis3d_res_reduce_t': lambda: clip_block(4, 6, shorten=True)}


@torch.no_grad()
@pytest.mark.parametrize('name', CRITIC_LAYERS)
def test_critic_layers(name):
    layer = CRITIC_LAYERS[name]()
    if name == 'dis_conv3_down': layer[1] = EqualConv2d(4, 6, 3, stride=2, bias=False)   # a block's has equal widths
    layer.load_state_dict(LAYERS.weights(f'{name}.'))
    LAYERS.calls[name].check('y', layer(LAYERS.calls[name].inputs['x']))


@torch.no_grad()
def test_critic_linear():
    layer, call = EqualLinear(4, 6), LAYERS.calls['linear_act']
    layer.load_state_dict(LAYERS.weights('linear_act.'))
    call.check('y', critic_act(layer(call.inputs['x'])))


@pytest.mark.parametrize('name, build, prefix', [('image', build_image_critic, 'net_di.'), ('video', build_clip_critic, 'net_dv.')])
def test_critics(name, build, prefix):
    case = load_case('ccvs/discriminators')
    call, critic = case.calls[name], build(CriticCfg(16, (6, 6, 12)))
    critic.load_state_dict(case.weights(prefix))
    (x,) = (value.clone().requires_grad_() for value in call.inputs.values())
    score = critic(x if name == 'image' else x.transpose(1, 2))
    call.check('score', score)
    call.check('input_grad', torch.autograd.grad(score.sum(), x)[0])


@pytest.mark.parametrize('call', load_case('ccvs/gan_losses').calls.values(), ids=lambda c: c.name)
def test_gan_losses(call):
    call.check('generator', generator_loss(call.inputs['fake']))
    call.check('discriminator', critic_loss(call.inputs['real'], call.inputs['fake']))


def test_perceptual_loss():
    case = load_case('ccvs/perceptual_vgg_narrow')
    trunk, (call,) = vgg_trunk((4, 6, 8, 10, 10)), case.calls.values()
    trunk.load_state_dict({key.split('.', 1)[1]: value for key, value in case.weights('vgg.').items()})
    loss, x = PerceptualLoss(trunk), call.inputs['x'].clone().requires_grad_()
    distance = loss(x, call.inputs['y'])
    call.check('loss', distance)
    call.check('grad_x', torch.autograd.grad(distance, x)[0])
    for i, found in enumerate(loss.features(x)): call.check(f'features_x.{i}', found)
