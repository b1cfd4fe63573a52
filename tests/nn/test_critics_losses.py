"""Critics and losses: golden values, invariants, second derivatives."""
import math

import pytest
import torch

from ccvs.nn.critics import CriticCfg, append_spread, build_clip_critic, build_image_critic
from ccvs.nn.losses import PerceptualLoss, critic_loss, generator_loss, load_vgg19, r1_penalty, vgg_trunk
from tests.golden import fill, wave


CFG = CriticCfg(64, (8, 8, 16, 16))


@torch.no_grad()
def test_golden_logits():
    image = fill(build_image_critic(CFG))(wave(0, 8, 3, 64, 64))
    expected = [-.199142, -.199208, -.199146, -.199034, -.199237, -.199282, -.199139, -.199190]
    torch.testing.assert_close(image[:, 0], torch.tensor(expected), rtol=0, atol=1e-5)          # as the appendix says
    clip = torch.stack([wave(.2 * t, 2, 3, 64, 64) for t in range(4)], 2)
    found = fill(build_clip_critic(CFG))(clip)[:, 0]
    torch.testing.assert_close(found, torch.tensor([-.201332, -.201699]), rtol=0, atol=1e-5)


@pytest.mark.parametrize('count, group', [(8, 4), (4, 4), (6, 3), (5, 1), (2, 2), (1, 1)])
def test_spread_needs_no_full_groups(count, group):
    torch.manual_seed(0)
    x = torch.randn(count, 3, 4, 4)
    found = append_spread(x)[:, 3]
    assert found.shape == (count, 4, 4) and (found == found[:, :1, :1]).all()
    for j in range(count):
        members = x[j % (count // group)::count // group]
        expected = (members.var(0, unbiased=False) + 1e-8).sqrt().mean()
        torch.testing.assert_close(found[j, 0, 0], expected, rtol=1e-5, atol=1e-6)              # rounding


@pytest.mark.parametrize('build, shape', [(build_image_critic, (2, 3, 16, 16)), (build_clip_critic, (2, 3, 4, 16, 16))])
def test_r1_equals_finite_differences(build, shape):
    torch.manual_seed(0)
    critic, x = build(CriticCfg(16, (4, 4, 8))).double(), torch.randn(shape, dtype=torch.double)
    weight = critic.final_linear[0].weight
    grad, = torch.autograd.grad(r1_penalty(critic, x), weight)
    direction, eps = torch.randn_like(weight), 1e-6
    with torch.no_grad(): weight += eps * direction
    high = r1_penalty(critic, x).detach()
    with torch.no_grad(): weight -= 2 * eps * direction
    low = r1_penalty(critic, x).detach()
    torch.testing.assert_close((high - low) / (2 * eps), (grad * direction).sum(), rtol=1e-5, atol=1e-8)   # O(eps^2)


def test_logistic_losses():
    zero = torch.zeros(4, 1)
    assert generator_loss(zero).item() == pytest.approx(math.log(2))
    assert critic_loss(zero, zero).item() == pytest.approx(2 * math.log(2))
    assert critic_loss(zero + 9, zero - 9) < .001 < critic_loss(zero - 9, zero + 9)


def test_perceptual_loss_freezes_trunk_and_target():
    torch.manual_seed(0)
    loss = PerceptualLoss(vgg_trunk((4, 6, 8, 10, 10)))
    fake, real = torch.randn(2, 1, 3, 32, 32).requires_grad_().unbind(0)
    fake.retain_grad(), real.retain_grad()
    loss(fake, real).backward()
    assert fake.grad.abs().sum() > 0 and real.grad is None and loss(real, real) == 0
    assert not any(p.requires_grad for p in loss.parameters())


def test_missing_vgg_weights_say_where_to_put_them(tmp_path):
    with pytest.raises(FileNotFoundError, match='vgg19-dcbb9e9d.pth'): load_vgg19(str(tmp_path / 'vgg19-dcbb9e9d.pth'))


def test_vgg_weights_are_read_by_torchvision_names(tmp_path):
    torch.manual_seed(0)
    trunk = vgg_trunk()
    path = tmp_path / 'vgg19-dcbb9e9d.pth'
    torch.save({f'features.{k}': v for k, v in trunk.state_dict().items()} | {'classifier.0.bias': torch.zeros(1)}, path)
    for key, value in load_vgg19(str(path)).state_dict().items(): assert torch.equal(value, trunk.state_dict()[key])
