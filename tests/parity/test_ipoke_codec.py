"What the runner does not ask of the first-stage networks and training steps: that a wrong weight is noticed, and turns that were not taken."
import pytest
import torch

from ccvs.compat.cases import find_cases, read_case, repeat
from ccvs.compat.poke_codec_kinds import networks, steps

from .cases import FOLDER

KINDS = networks.KINDS | steps.KINDS
CASES = {case.name: case for path in find_cases(FOLDER / 'ipoke') if (case := read_case(path)).record['kind'] in KINDS}

pytestmark = pytest.mark.usefixtures('one_thread')


def spoilt(case, name):
    "The case with one of its weights a little off."
    changed = case.weights[name].clone()
    changed.view(-1)[0] += .5
    return case._replace(weights=case.weights | {name: changed})


@pytest.mark.parametrize('name, weight', [
    ('video_autoencoder_64', 'rnn.cells.2.out_gate.bias'), ('spatial_disc', 'layers.1.weight_u'), ('temporal_disc', 'layer4.1.bn2.bias'),
    ('image_encoder', 'decoder.out_conv.conv.bias'), ('stage1_training', 'disc_s.out_conv.bias'), ('spade_decoder', 'spade_blocks.0.conv_gamma.bias')])
def test_a_wrong_weight_is_noticed(name, weight):
    case = spoilt(CASES[name], weight)
    assert not repeat(case, case.calls[0], KINDS).passed


def test_a_critic_that_is_off_takes_no_turn():
    "Without the temporal critic its weights may be missing, and its numbers are not found."
    case = CASES['stage1_training']
    call = case.calls[0]
    args = call.args | dict(d_t=call.args['d_t'] | dict(use=False), steps=1)
    case = case._replace(weights={name: value for name, value in case.weights.items() if not name.startswith('disc_t.')})
    found = steps.stage1_training(case, call._replace(args=args))
    assert 'step0/loss_d_dt' not in found and 'step0/loss_d_ds' in found
    call.outputs['step0/l_rec'].check(found['step0/l_rec'], 'l_rec')


def test_before_its_epoch_the_image_critic_is_silent():
    case = CASES['image_encoder_training']
    call = case.calls[0]
    found = steps.image_encoder_training(case, call._replace(args=call.args | dict(epoch=1)))
    assert found['disc_factor'] == found['g_loss'] == found['d_weight'] == 0
    torch.testing.assert_close(found['loss'], found['nll_loss'])
