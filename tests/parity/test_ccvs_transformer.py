"""The transformer reproduces the recorded outputs of the official networks."""
import pytest
import torch

from ccvs.control.end_frame import end_prefix
from ccvs.control.label import label_prefix
from ccvs.control.layout import join_prefixes, prefix_tokens, start_prefix, stream_segments, training_segments, weave
from ccvs.prior.choice import ChoiceCfg, choose, next_token_probs
from ccvs.prior.transformer import Table, TransformerCfg, build_transformer, parameter_groups
from ccvs.synth.sampling import SamplingCfg, generate_tokens, stream_uncached, together

from .cases import load_case

CASES = ['tf_prediction', 'tf_long_input', 'tf_unconditional', 'tf_p2p', 'tf_class', 'tf_state', 'tf_sound']


pytestmark = pytest.mark.usefixtures('one_thread')


def transformer_cfg(o):
    "The sizes that the official options `o` describe."
    size = o.get('x_state_size') or o.get('s_state_size', 2) if o['x_state'] or o['x_stft'] else 0
    return TransformerCfg(o['x_z_num'], o['x_n_layer'], o['x_n_head'], o['x_n_embd'], tuple(o['x_z_shape']), o['x_num_blocks'], o['x_z_len'],
                          start=o['x_use_start_token'], control_vocab=o['x_state_num'] if size else 0, control_tokens=size,
                          labels=len(o['categories']) if o['x_cat'] else 0)


def transformer_of(case):
    "The transformer a recorded case describes, with its weights, loaded strictly."
    state = case.weights('net_t.')
    o = case.options | dict(categories=range(len(state.get('lbl_emb.weight', ()))))
    net = build_transformer(transformer_cfg(o))
    net.load_state_dict(state)
    return net.eval()


def each(kind):
    return [pytest.param(case, call, id=f'{name}-{call.name}') for name in CASES
            for case in [load_case(f'ccvs/{name}')] for call in case.calls.values() if call.kind == kind]


def control_of(call, cfg):
    "The control tokens (B, T, S) of a call, or None."
    return call.inputs['state_code'].unflatten(1, (-1, cfg.control_tokens)) if 'state_code' in call.inputs else None


def prefix_of(call, cfg):
    "What stands before the stream of a call."
    code = call.inputs['code']
    parts = [label_prefix(call.inputs['vid_lbl'], cfg)] if 'vid_lbl' in call.inputs else []
    parts.append(start_prefix(cfg, len(code), code.device))
    if 'cond_code' in call.inputs: parts.append(end_prefix(call.inputs['cond_code'], call.inputs['delta_length_cond'], cfg))
    return join_prefixes(*parts)


@pytest.mark.parametrize('case, call', each('tf.logits'))
def test_logits(case, call):
    net = transformer_of(case)
    before = prefix_of(call, net.cfg)(0)
    logits = net([*before, *stream_segments(weave(call.inputs['code'], control_of(call, net.cfg), net.cfg), net.cfg)])
    call.check('logits', logits[:, prefix_tokens(before):])          # those of the end frame are not wanted


@pytest.mark.parametrize('case, call', each('tf.loss'))
def test_loss_and_gradients(case, call):
    net = transformer_of(case)
    terms = net.terms(training_segments(weave(call.inputs['code'], control_of(call, net.cfg), net.cfg), prefix_of(call, net.cfg)(0), net.cfg))
    loss = sum(terms.values())
    loss.backward()
    call.check('loss', loss)
    call.check('terms/nll', loss)                                    # the official log calls the sum so
    if Table.CONTROL in terms: call.check('terms/state_nll', terms[Table.CONTROL])
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


def uncached(net, given, frames, **more): return together(stream_uncached(net, given, frames, **more))


def sampling_of(o):
    "How the official options `o` choose tokens."
    return SamplingCfg(o['x_temperature'], o['x_top_k'], not o['x_sample'],
                       control=ChoiceCfg(o['x_temperature_state'], o['x_top_k_state'], not o['x_sample_state']))


@pytest.mark.parametrize('sampler', [generate_tokens, uncached])
@pytest.mark.parametrize('case, call', each('tf.generate'))
def test_generation(case, call, sampler):
    "Greedy tokens, within the window and sliding, exactly those of the official code; total lengths may end inside a frame."
    net, given, o = transformer_of(case), call.inputs['code'], call.options
    cfg, control, prefix = net.cfg, control_of(call, net.cfg), prefix_of(call, net.cfg)
    total = (call.args['total_len'] or cfg.capacity) - prefix_tokens(prefix(0))
    assert o['x_z_chunk'] == cfg.unit                                     # one frame a slide
    known = given.shape[1] // cfg.frame_tokens
    made = sampler(net, given, -(-total // cfg.unit) - known, cfg=sampling_of(o), prefix=prefix, control=control)
    frames, rest = divmod(total, cfg.unit)
    codes = torch.cat([given[:, :known * cfg.frame_tokens], made.codes.flatten(1)], 1)
    call.check('code', codes[:, :frames * cfg.frame_tokens + max(rest - cfg.control_tokens, 0)])
    if 'state_code' in call.outputs:
        tokens = torch.cat([control[:, :known], made.control], 1).flatten(1)
        call.check('state_code', tokens[:, :frames * cfg.control_tokens + min(rest, cfg.control_tokens)])


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
