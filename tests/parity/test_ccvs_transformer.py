"""The transformer reproduces the recorded outputs of the official networks."""
import pytest
import torch

from ccvs.prior.transformer import TransformerCfg, build_transformer, parameter_groups, plain_segments
from ccvs.synth.sampling import SamplingCfg, choose, generate, generate_uncached, next_token_probs

from .cases import load_case

CASES = ['tf_prediction', 'tf_long_input', 'tf_unconditional']


pytestmark = pytest.mark.usefixtures('one_thread')


def transformer_of(case):
    "The transformer a recorded case describes, with its weights, loaded strictly."
    o = case.options
    cfg = TransformerCfg(o['x_z_num'], o['x_n_layer'], o['x_n_head'], o['x_n_embd'],
                         tuple(o['x_z_shape']), o['x_num_blocks'], o['x_z_len'], start=o['x_use_start_token'])
    net = build_transformer(cfg)
    net.load_state_dict(case.weights('net_t.'))
    return net.eval()


def each(kind):
    return [pytest.param(case, call, id=f'{name}-{call.name}') for name in CASES
            for case in [load_case(f'ccvs/{name}')] for call in case.calls.values() if call.kind == kind]


@pytest.mark.parametrize('case, call', each('tf.logits'))
def test_logits(case, call):
    net = transformer_of(case)
    call.check('logits', net(plain_segments(call.inputs['code'], net.cfg)))


@pytest.mark.parametrize('case, call', each('tf.loss'))
def test_loss_and_gradients(case, call):
    net = transformer_of(case)
    loss = net.loss(plain_segments(call.inputs['code'], net.cfg))
    loss.backward()
    call.check('loss', loss)
    gradients = {f'net_t.{name}': p.grad for name, p in net.named_parameters()}
    call.check('grad_norm', torch.stack([gradients[name].norm() for name in call.record['grad_norm_parameter_order']]))
    for name in call.outputs:
        if name.startswith('grad/'): call.check(name, gradients[name.removeprefix('grad/')])


@pytest.mark.parametrize('name', ['tf_prediction'])
def test_weight_decay_touches_linear_weights_only(name):
    case = load_case(f'ccvs/{name}')
    net = transformer_of(case)
    names = {id(p): key for key, p in net.named_parameters()}
    for group, recorded in zip(parameter_groups(net, 0.01), case.record['optimizer']['groups'], strict=True):
        assert group['weight_decay'] == recorded['weight_decay']
        assert sorted(names[id(p)] for p in group['params']) == sorted(recorded['parameters'])


@pytest.mark.parametrize('sampler', [generate, generate_uncached])
@pytest.mark.parametrize('case, call', each('tf.generate'))
def test_generation(case, call, sampler):
    "Greedy codes, within the window and sliding, exactly those of the official code; total lengths may end inside a frame."
    net, given = transformer_of(case), call.inputs['code']
    total, tokens = call.args['total_len'] or net.cfg.capacity, net.cfg.frame_tokens
    known = given.shape[1] // tokens
    o = call.options
    assert o['x_z_chunk'] == tokens                                       # one frame a slide
    cfg = SamplingCfg(o['x_temperature'], o['x_top_k'], greedy=not o['x_sample'])
    frames = sampler(net, given, -(-total // tokens) - known, cfg=cfg)
    call.check('code', torch.cat([given[:, :known * tokens], frames.flatten(1)], 1)[:, :total])


@pytest.mark.parametrize('name', ['kNone_t1.0', 'kNone_t0.7', 'k5_t1.0', 'k5_t0.7', 'k1_t1.0', 'k1_t0.7', 'sample_top1'])
def test_filter(name):
    call = load_case('ccvs/tf_topk_filter').calls[name]
    logits = call.inputs['logits'][:, -1]
    probs = next_token_probs(logits, **call.args)
    if name == 'sample_top1':
        cfg = SamplingCfg(**call.args)
        return call.check('greedy', choose(logits, torch.full((3,), .9, dtype=torch.float64), cfg)[:, None])
    call.check('probs', probs)
    call.check('greedy', choose(logits, torch.zeros(3), SamplingCfg(**call.args, greedy=True))[:, None])
    call.check('greedy_log_p', probs.log().amax(-1, keepdim=True))
    likeliest = call.outputs['top3'].value.shape[1]
    call.check('top3', probs.topk(likeliest, -1).indices)
