"""What the runner does not ask of the transformer: generation without a cache, and which weights decay."""
import pytest

from ccvs.compat.ccvs_kinds import prior
from ccvs.prior.transformer import parameter_groups
from ccvs.synth.sampling import stream_uncached, together

from .cases import load_case

CASES = ['tf_prediction', 'tf_long_input', 'tf_unconditional', 'tf_p2p', 'tf_class', 'tf_state', 'tf_sound']

pytestmark = pytest.mark.usefixtures('one_thread')


def test_weight_decay_touches_linear_weights_only():
    case = load_case('ccvs/tf_prediction')
    net = prior.recorded_transformer(case.whole, case.options)
    names = {id(p): key for key, p in net.named_parameters()}
    for group, recorded in zip(parameter_groups(net, 0.01), case.record['optimizer']['groups'], strict=True):
        assert group['weight_decay'] == recorded['weight_decay']
        assert sorted(names[id(p)] for p in group['params']) == sorted(recorded['parameters'])


@pytest.mark.parametrize('case, call', [pytest.param(case, call, id=f'{name}-{call.name}') for name in CASES
                                        for case in [load_case(f'ccvs/{name}').whole] for call in case.calls if call.kind == 'tf.generate'])
def test_generation_without_a_cache(case, call, monkeypatch):
    "Greedy tokens, within the window and sliding, exactly those of the official code."
    monkeypatch.setattr(prior, 'generate_tokens', lambda net, given, frames, **more: together(stream_uncached(net, given, frames, **more)))
    found = prior.generated(case, call)
    for name in call.outputs: call.check(name, found[name])
