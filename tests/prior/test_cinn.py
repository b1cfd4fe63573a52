"""The whole invertible network: its promises, its fast inverse, its sizes (iPOKE spec 4)."""
import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from ccvs.nn.invertible.affine import NormedConv
from ccvs.nn.invertible.check import check_invertible
from ccvs.prior.cinn import PRESETS, Cinn, CinnCfg, fit_to_batch, likelihood_terms

SMALL = CinnCfg(width=6, cond_width=4, hidden=8, factor=3, steps=(1, 1))   # the published acceptance check, spec 14.2


def stirred(cfg):
    torch.manual_seed(0)
    net = Cinn(cfg)
    for part in net.modules():
        if isinstance(part, NormedConv): part.weight_g.data.uniform_(.05, .3), part.bias.data.uniform_(-.1, .1)
    return net


def test_promises():
    found = check_invertible(stirred(SMALL), torch.randn(1, 6, 4, 4), torch.randn(1, 4, 4, 4))
    assert found.log_det < 1e-10


def test_fast_inverse():
    net = stirred(PRESETS['tiny']).double()
    noise, cond = torch.randn(4, 8, 8, 8).double(), torch.randn(2, 64, 8, 8).double()
    with torch.no_grad():
        found = net.sampler().double()(noise, cond)
        assert_close(found, net.inverse(noise, cond.repeat_interleave(2, 0)), rtol=0, atol=1e-10)
        assert_close(net.residual(found, cond.repeat_interleave(2, 0)), noise, rtol=0, atol=1e-10)


def test_samples_of_one_condition_do_not_depend_on_their_number():
    net, cond = stirred(PRESETS['tiny']).sampler(), torch.randn(1, 64, 4, 4)
    noise = torch.randn(5, 8, 4, 4)
    assert_close(net(noise, cond)[3:4], net(noise[3:4], cond), rtol=1e-5, atol=1e-5)   # sizes of matrix products differ


class Waits(TorchDispatchMode):
    "Operations in all, and those that make the host wait."
    def __init__(self): super().__init__(); self.ops = self.waits = 0
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.ops += 1
        self.waits += str(func).startswith(('aten._local_scalar', 'aten.item', 'aten.nonzero'))
        return func(*args, **(kwargs or {}))


def test_operations_of_the_fast_inverse():
    net = stirred(CinnCfg(width=8, cond_width=16, hidden=16, factor=4, steps=(1,)))
    sampler, noise, cond = net.sampler(), torch.randn(1, 8, 8, 8), torch.randn(1, 16, 8, 8)
    with Waits() as count: sampler(noise, cond)
    assert count.waits == 0
    assert count.ops < 2_179          # what one published step dispatches, views among them (perf B3); 1,930 here


def test_first_batch():
    torch.manual_seed(1)
    net, latent, cond = Cinn(SMALL), 4 + 3 * torch.randn(32, 6, 4, 4), torch.randn(32, 4, 4, 4)
    noise = fit_to_batch(net, latent, cond)
    again, log_det = net(latent, cond)
    assert_close(again, noise)
    assert abs(noise.mean()) < .1 and abs(noise.std() - 1) < .2
    terms = likelihood_terms(again, log_det)
    assert_close(terms.loss, .5 * noise.square().flatten(1).sum(1).mean() - log_det.mean())


def test_published_sizes():
    with torch.device('meta'):
        counts = {name: sum(p.numel() for p in Cinn(PRESETS[name]).parameters()) for name in ('taichi_64', 'h36m_128')}
    assert counts == dict(taichi_64=1_054_426_620, h36m_128=1_237_326_840)


@pytest.mark.parametrize('broken', [dict(factor=7), dict(steps=(1, 1, 1)), dict(factor=0)])
def test_sizes_that_cannot_be(broken):
    with pytest.raises((ValueError, ZeroDivisionError)): CinnCfg(**(dict(width=6, factor=3, steps=(1, 1)) | broken))
