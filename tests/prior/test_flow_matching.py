"""The flow-matching prior keeps the promises of the invertible one: back is the inverse of there, and it learns."""
import pytest
import torch
from torch.autograd.functional import jacobian
from torch.testing import assert_close

from ccvs.core.config import override
from ccvs.core.seed import torch_rng
from ccvs.prior.flow_matching import FlowMatching, FlowMatchingCfg, log_growth, midpoint_step

CFG = FlowMatchingCfg(width=3, cond_width=4, hidden=16, blocks=2, heads=2, steps=4)


def stirred(std=.1):
    "Velocities that are not zero."
    torch.manual_seed(0)
    prior = FlowMatching(CFG)
    for name, p in prior.named_parameters():
        if not p.any() and p.ndim > 1: torch.nn.init.normal_(p, std=std)
    prior.standardise(2 + 3 * torch.randn(16, 3, 4, 4))
    return prior


@pytest.mark.parametrize('dtype, allowed', [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_there_and_back(dtype, allowed):
    prior, noise, cond = stirred().to(dtype), torch.randn(2, 3, 4, 4, dtype=dtype), torch.randn(2, 4, 4, 4, dtype=dtype)
    latent = prior.sample(noise, cond)
    assert (latent - noise).abs().max() > .5
    assert (prior.residual(latent, cond) - noise).abs().max() < allowed
    assert (prior.sample(prior.residual(latent, cond), cond) - latent).abs().max() < allowed * 10   # scaled by the spread


def test_samples_of_a_condition_lie_next_to_each_other():
    prior, noise, cond = stirred(), torch.randn(6, 3, 4, 4), torch.randn(2, 4, 4, 4)
    assert_close(prior.sampler()(noise, cond)[4:5], prior.sample(noise[4:5], cond[1:]), rtol=1e-5, atol=1e-5)   # batched products


def test_the_density_is_that_of_the_map():
    prior, noise, cond = stirred(.05).double(), torch.randn(1, 3, 2, 2).double(), torch.randn(1, 4, 2, 2).double()
    def there(start):
        for i in range(CFG.steps): start = start + midpoint_step(prior.velocity, start, i / CFG.steps, 1 / CFG.steps, cond)
        return start.flatten()
    exact = jacobian(there, noise).flatten(1).slogdet().logabsdet.item()
    latent = prior.sample(noise, cond)
    found, log_det = prior.density(latent, cond, probes=400)
    assert_close(found, noise, rtol=0, atol=1e-10)
    scale = 4 * prior.spread.log().sum().item()
    assert log_det.item() == pytest.approx(-exact - scale, abs=.05)      # of a hundred probes, each with a deviation below 0.2
    assert log_growth(prior, noise, cond, 400).item() == pytest.approx(exact, abs=.05)


def test_a_step_that_repetition_cannot_undo_is_undone():
    "Velocities that change so fast that x = y - step(x) runs away; mixing finds the way back all the same."
    torch.manual_seed(0)
    prior, latent, cond = stirred(3.), 30 * torch.randn(1, 3, 4, 4), torch.randn(1, 4, 4, 4)
    y = (latent - prior.centre) / prior.spread
    repeated = y
    with torch.no_grad():
        for _ in range(50): repeated = y - midpoint_step(prior.velocity, repeated, 0., 1., cond)
        assert (repeated + midpoint_step(prior.velocity, repeated, 0., 1., cond) - y).abs().max() > .1
    assert_close(prior.sample(prior.residual(latent, cond, steps=1), cond, steps=1), latent, rtol=0, atol=1e-3)


def test_a_step_that_cannot_be_undone_says_so():
    prior = stirred(100.)
    with pytest.raises(RuntimeError, match='take more steps'): prior.residual(30 * torch.randn(1, 3, 4, 4), torch.randn(1, 4, 4, 4), steps=1)


def test_it_learns_the_condition():
    torch.manual_seed(0)
    prior = FlowMatching(override(CFG, cond_width=1, blocks=1))
    steps, losses = torch.optim.Adam(prior.velocity.parameters(), lr=3e-3), []
    for step in range(250):
        g = torch_rng(0, step)
        side = torch.randint(2, (32, 1, 1, 1), generator=g) * 2. - 1
        latent = side.expand(-1, 3, 2, 2) + .1 * torch.randn(32, 3, 2, 2, generator=g)
        loss = prior.loss(latent, side.expand(-1, -1, 2, 2), torch.randn(32, 3, 2, 2, generator=g), torch.rand(32, generator=g))
        steps.zero_grad(); loss.backward(); steps.step(); losses.append(loss.item())
    assert sum(losses[-20:]) < .4 * sum(losses[:20])
    found = prior.sample(torch.randn(32, 3, 2, 2), torch.ones(1, 1, 2, 2))
    assert abs(found.mean() - 1) < .3


@pytest.mark.parametrize('broken', [dict(hidden=20), dict(heads=3), dict(steps=0)])
def test_sizes_that_cannot_be(broken):
    with pytest.raises(ValueError): override(CFG, **broken)


def test_velocities_hear_the_time():
    prior, x, cond = stirred(), torch.randn(1, 3, 4, 4), torch.randn(1, 4, 4, 4)
    early, late = (prior.velocity(x, torch.tensor([time]), cond) for time in (.1, .9))
    assert (early - late).abs().max() > 1e-3
