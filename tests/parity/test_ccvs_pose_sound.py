"The pose estimator and the sound codec reproduce the recorded outputs of the official networks."
import pytest
import torch

from ccvs.codec.sound import SoundCodecCfg, build_sound_codec, sound_loss
from ccvs.data.sound import SliceCfg
from ccvs.nn.losses import PerceptualLoss, vgg_trunk
from ccvs.prior.pose import PoseCfg, build_pose

from .cases import load_case

pytestmark = pytest.mark.usefixtures('one_thread')


def pose_of(case, prefix=''):
    "The estimator and scalar codebook a recorded case describes, loaded strictly."
    o, state = case.options, case.weights(prefix)
    pose = build_pose(PoseCfg(tuple(o['s_z_shape']), o['s_z_size'], o['s_state_hsize'], o['s_state_num'], o['s_state_size']))
    for part, name in ((pose.estimator, 'net_s.'), (pose.quantizer, 'net_q.')):
        part.load_state_dict({key.removeprefix(name): value for key, value in state.items() if key.startswith(name)})
    return pose


def sound_codec_of(case, prefix=''):
    "The sound codec a recorded case describes, loaded strictly."
    o, state = case.options, case.weights(prefix)
    rows, columns = (8 * side for side in o['a_stft_shape'])
    codec = build_sound_codec(SoundCodecCfg(SliceCfg(window=2 * rows, rows=rows, columns=columns), o['a_stft_hsize'], o['a_stft_size'], o['a_stft_num']))
    for part, name in ((codec.encoder, 'net_e.'), (codec.quantizer, 'net_q.'), (codec.decoder, 'net_d.')):
        part.load_state_dict({key.removeprefix(name): value for key, value in state.items() if key.startswith(name)})
    return codec


def check_gradients(call, parts):
    "The recorded gradients, by official name; `parts` maps official prefixes to modules."
    gradients = {prefix + name: p.grad for prefix, part in parts.items() for name, p in part.named_parameters()}
    call.check('grad_norm', torch.stack([gradients[name].norm() for name in call.record['grad_norm_parameter_order']]))
    for name in call.outputs:
        if name.startswith('grad/'): call.check(name, gradients[name.removeprefix('grad/')])


def calls(case, kind): return [call for call in case.calls.values() if call.kind == kind]


def test_pose():
    case = load_case('ccvs/state_estimator')
    pose = pose_of(case)
    for call in calls(case, 'state.estimate'): call.check('state', pose.estimate(call.inputs['z']))
    for call in calls(case, 'state.encode'):
        numbers = call.inputs['state'] if call.args.get('given_state') else pose.estimate(call.inputs['z'])
        call.check('state_code', pose.encode(numbers).flatten(1))
    for call in calls(case, 'state.decode'): call.check('state', pose.decode(call.inputs['state_code'].unflatten(1, (-1, pose.cfg.axes))))
    for call in calls(case, 'state.eval'):
        found = pose.decode(pose.encode(pose.estimate(call.inputs['z'])))
        call.check('loss', torch.nn.functional.mse_loss(found, call.inputs['state']))
    for call in calls(case, 'state.loss'):
        loss = pose.loss(call.inputs['z'], call.inputs['state'])
        loss.total.backward()
        for name, value in (('loss', loss.total), ('terms/rec', loss.recon), ('terms/quant', loss.codebook)): call.check(name, value)
        check_gradients(call, {'net_s.': pose.estimator, 'net_q.': pose.quantizer})


def narrow_vgg(case):
    "The stand-in for VGG-19 that the case carries."
    found = {key.split('.', 1)[1]: value for key, value in case.weights('vgg_loss.vgg.').items()}
    widths = tuple(len(found[f'{layer}.weight']) for layer in (0, 5, 10, 19, 28))
    trunk = vgg_trunk(widths)
    trunk.load_state_dict(found)
    return PerceptualLoss(trunk)


def test_sound():
    case = load_case('ccvs/sound_autoencoder')
    codec = sound_codec_of(case)
    for call in calls(case, 'sound.features'):
        slices = call.inputs['stft']
        call.check('z', codec.encoder(slices.flatten(0, -4)).unflatten(0, slices.shape[:-3]))
    for call in calls(case, 'sound.encode'): call.check('state_code', codec.encode(call.inputs['stft']).flatten(1))
    for call in calls(case, 'sound.decode'): call.check('stft', codec.decode(call.inputs['state_code'].unflatten(1, (-1, codec.cfg.tokens))))
    for call in calls(case, 'sound.eval'):
        slices = call.inputs['stft']
        call.check('loss', torch.nn.functional.mse_loss(codec.decode(codec.encode(slices)), slices))
    for call in calls(case, 'sound.loss'):
        loss = sound_loss(codec, call.inputs['stft'].flatten(0, -4), narrow_vgg(case))
        loss.total.backward()
        for name, value in (('loss', loss.total), ('terms/rec', loss.recon), ('terms/quant', loss.codebook), ('terms/vgg', loss.perceptual)): call.check(name, value)
        check_gradients(call, {'net_e.': codec.encoder, 'net_d.': codec.decoder, 'net_q.': codec.quantizer})
