"""Every invertible layer keeps its two promises, and the fast inverse is the clear one (iPOKE spec 4)."""
import pytest
import torch
from torch.testing import assert_close

from ccvs.nn.invertible.affine import NormedConv
from ccvs.nn.invertible.check import check_invertible, inverse_errors
from ccvs.nn.invertible.coupling import Coupling, Split, every_other, halves
from ccvs.nn.invertible.masked import MaskedConv, Order
from ccvs.nn.invertible.simple import ActNorm, Shuffle
from ccvs.nn.invertible.step import SplitPrior, Step, Unit
from ccvs.nn.invertible.sweep import bind, fold, run_folded

WIDTH, COND, HIDDEN = 4, 5, 8


def stirred(layer):
    "Random weights where a fresh layer is the identity."
    for part in layer.modules():
        if isinstance(part, NormedConv): part.weight_g.data.uniform_(.1, .5), part.bias.data.uniform_(-.2, .2)
        if isinstance(part, ActNorm): part.bias.data.uniform_(-.5, .5)
    return layer


def masked(order, kernel=(2, 3), cond=COND): return MaskedConv(order, WIDTH, cond, kernel)


LAYERS = {
    **{f'masked {order.name}': lambda order=order: masked(order) for order in Order},
    'masked, no condition': lambda: MaskedConv(Order.B, WIDTH),
    'masked, deep kernel': lambda: masked(Order.C, (3, 5)),
    'norm': lambda: ActNorm(WIDTH),
    'shuffle': lambda: Shuffle(WIDTH),
    'coupling up': lambda: Coupling(WIDTH, HIDDEN, halves(WIDTH)),
    'coupling down': lambda: Coupling(WIDTH, HIDDEN, halves(WIDTH, down=True)),
    'coupling skip': lambda: Coupling(WIDTH, HIDDEN, every_other(WIDTH)),
    'coupling skip down': lambda: Coupling(WIDTH, HIDDEN, every_other(WIDTH, down=True)),
    'coupling, conditioned': lambda: Coupling(WIDTH, HIDDEN, halves(WIDTH), COND),
    'coupling, last one': lambda: Coupling(WIDTH, HIDDEN, Split(slice(0, 3), slice(3, None))),
    'prior': lambda: SplitPrior(WIDTH, 1, HIDDEN),
    'unit': lambda: Unit(WIDTH, COND),
    'step': lambda: Step(WIDTH, HIDDEN, COND),
}


@pytest.fixture(params=LAYERS)
def layer(request):
    torch.manual_seed(0)
    return stirred(LAYERS[request.param]())


def inputs():
    cond = torch.randn(2, COND, 3, 4)
    return torch.randn(2, WIDTH, 3, 4), cond


def seen(layer, cond):
    "The condition, for layers that take one."
    return None if isinstance(layer, MaskedConv) and layer.net.conv1x1.weight_v.shape[1] == len(layer.net.shift_conv.weight) else cond


def test_promises(layer):
    x, cond = inputs()
    check_invertible(layer, x, seen(layer, cond))


@pytest.mark.parametrize('name', [name for name in LAYERS if 'no condition' not in name and 'conditioned' not in name])
def test_fast_inverse_is_the_clear_one(name):
    torch.manual_seed(1)
    layer = stirred(LAYERS[name]()).double()
    y, cond = (v.double() for v in inputs())
    chain = [part.double() for part in fold(layer)]
    with torch.no_grad():
        found = run_folded(chain, y.permute(0, 2, 3, 1), bind(chain, cond)).permute(0, 3, 1, 2)
        assert_close(found, layer.inverse(y, cond), rtol=0, atol=1e-11)
        doubled = run_folded(chain, y.repeat_interleave(2, 0).permute(0, 2, 3, 1), bind(chain, cond, 2)).permute(0, 3, 1, 2)
    assert_close(doubled[1::2], found, rtol=0, atol=1e-12)


@pytest.mark.parametrize('order', Order)
def test_a_sweep_never_looks_ahead(order):
    torch.manual_seed(2)
    layer, (x, cond) = stirred(masked(order)), inputs()
    lines = 3 if order.sideways else 2
    at = x.shape[lines] // 2
    bumped = x.clone()
    bumped.select(lines, at).add_(1)
    changed = (layer(bumped, cond)[0] - layer(x, cond)[0]).abs().amax([d for d in range(4) if d != lines]) > 0
    before = changed[at + 1:] if order.backwards else changed[:at]
    assert changed[at] and not before.any()


def test_a_first_batch_is_normalised_and_nothing_else_happens():
    torch.manual_seed(3)
    step, x, cond = stirred(Step(WIDTH, HIDDEN, COND)), 7 + 3 * torch.randn(32, WIDTH, 4, 4), torch.randn(32, COND, 4, 4)
    y = step.initialise(x, cond)
    assert_close(step(x, cond)[0], y)
    assert y.mean().abs() < .1 and (y.std() - 1).abs() < .2
    assert_close(step(x, cond)[0], step(x, torch.zeros_like(cond))[0])


def test_a_wrong_log_determinant_is_found():
    class Wrong(ActNorm):
        def forward(self, x, cond=None): return super().forward(x)[0], torch.zeros(len(x))
    assert inverse_errors(Wrong(3), torch.randn(1, 3, 2, 2)).log_det > 1e-3
