"Spectral norm, blocks, SPADE, recurrent cells, volumes and critics of iPOKE: what must hold whatever the weights."
import pytest
import torch
from torch import nn

from ccvs.nn.video.blocks import group_norm, res_block, up_block
from ccvs.nn.video.critics import ImageCritic, PatchCritic, TemporalCritic
from ccvs.nn.video.losses import adaptive_weight, gradient_penalty, kl_mean, ramp
from ccvs.nn.video.recurrent import build_conv_gru
from ccvs.nn.video.spade import Spade, group_count
from ccvs.nn.video.spectral import SpectralConv
from ccvs.nn.video.volumes import spectral_volume, volume_stage

pytestmark = pytest.mark.usefixtures('one_thread')

CONVS = [lambda: nn.Conv2d(3, 5, 3, padding=1), lambda: nn.Conv3d(3, 5, 3, padding=1, bias=False),
         lambda: nn.ConvTranspose2d(3, 5, 3, 2, 1, 1)]


@pytest.mark.parametrize('make', CONVS, ids=['2d', '3d', 'transposed'])
def test_spectral_norm_is_that_of_torch(make):
    "Three passes in training mode, their gradients, and a pass in evaluation mode; float64, so that only the formula is compared."
    torch.manual_seed(0)
    ours = SpectralConv(make()).double()
    theirs = torch.nn.utils.spectral_norm(make()).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, *[6] * (ours.weight_orig.dim() - 2), dtype=torch.double)
    for net in (ours, theirs):
        sum(net(x).square().sum() for _ in range(3)).backward()
    torch.testing.assert_close(ours.weight_orig.grad, theirs.weight_orig.grad, rtol=1e-9, atol=1e-9)
    for name in ('weight_u', 'weight_v'): torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=0, atol=1e-12)
    before = ours.weight_u.clone()
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-9, atol=1e-9)
    assert torch.equal(ours.weight_u, before)


def test_two_passes_before_the_gradient():
    "The critics judge twice, then ask for gradients: the first pass must remember the vectors it used."
    torch.manual_seed(0)
    layer, x = SpectralConv(nn.Conv2d(3, 4, 3)), torch.randn(1, 3, 6, 6)
    first = layer(x)
    u, v = layer.weight_u.clone(), layer.weight_v.clone()
    layer(x)
    first.square().sum().backward()
    weight = layer.weight_orig.detach().requires_grad_()
    nn.functional.conv2d(x, weight / (u @ weight.flatten(1) @ v), layer.bias).square().sum().backward()
    torch.testing.assert_close(layer.weight_orig.grad, weight.grad, rtol=1e-5, atol=1e-5)


def test_projected_residuals_have_their_own_norm_and_bend():
    assert res_block(16, 16).res_conv is None
    changed, doubled = res_block(16, 32), up_block(16, 16)
    assert isinstance(changed.res_conv.norm, nn.InstanceNorm2d) and isinstance(changed.res_conv.act, nn.ELU)
    assert isinstance(doubled.res_conv.norm, nn.InstanceNorm2d) and isinstance(doubled.res_conv.act, nn.ReLU)
    assert changed.conv2.act is None and isinstance(doubled.conv1.act, nn.ReLU)
    assert isinstance(res_block(16, 16, spectral=False).conv1.conv, nn.Conv2d)


def test_group_norm_wants_sixteen_groups():
    with pytest.raises(ValueError, match='multiple of 16'): group_norm(40)
    assert [group_count(width) for width in (256, 24, 7, 34)] == [16, 12, 7, 2]


def test_spade_speaks_of_every_place():
    "Where the maps are zero SPADE only normalises; a shift at one pixel arrives at that pixel, in every frame of the clip."
    spade, x = Spade(4, 8), torch.randn(6, 4, 5, 5)
    maps = spade.modulation(torch.randn(2, 3, 9, 9), (5, 5))
    assert maps.gamma.shape == maps.beta.shape == (2, 4, 5, 5)
    none = type(maps)(torch.zeros(2, 4, 5, 5), torch.zeros(2, 4, 5, 5))
    plain = spade(x, none)
    torch.testing.assert_close(plain, spade.norm(x))
    none.beta[1, :, 2, 3] = 1
    change = spade(x, none) - plain
    wanted = torch.zeros_like(change)
    wanted[3:, :, 2, 3] = 1                                                            # the frames of the second clip
    torch.testing.assert_close(change, wanted, rtol=0, atol=1e-6)


def test_gru_layers_may_differ_in_width():
    gru = build_conv_gru(3, (4, 6))
    states = gru(torch.randn(2, 3, 5, 5), None)
    states = gru(torch.randn(2, 3, 5, 5), states)
    assert [s.shape[1] for s in states] == [4, 6] and all(s.abs().max() < 1 for s in states)
    weight = gru.cells[0].update_gate.weight.flatten(1)
    torch.testing.assert_close(weight @ weight.T, torch.eye(4), rtol=0, atol=1e-5)    # orthogonal at birth


@pytest.mark.parametrize('frames, kept', [(10, (10, 5, 3, 2)), (6, (6, 3, 2, 1)), (4, (4, 2, 1, 1))])
def test_temporal_critic_halves_time_rounding_up(frames, kept):
    critic, clip = TemporalCritic((16,) * 5), torch.randn(2, 3, frames, 16, 24)
    verdict = critic(clip)
    assert tuple(m.shape[2] for m in verdict.maps) == kept and verdict.score.shape == (2, kept[-1])
    assert TemporalCritic((16,) * 5, halve_time=False)(clip).score.shape == (2, frames)


@pytest.mark.parametrize('side, patches', [(128, 14), (64, 6), (48, 4)])
def test_patch_critics_judge_patches(side, patches):
    frames = torch.randn(1, 3, side, side)
    verdict = PatchCritic((4, 8, 8, 16))(frames)
    assert verdict.score.shape == (1, 1, patches, patches) and [m.shape[1] for m in verdict.maps] == [8, 8, 16]
    assert ImageCritic((4, 16, 16, 16))(frames).shape == (1, 1, patches, patches)


def test_every_convolution_of_a_critic_is_normalised():
    nets = PatchCritic((4, 8, 8, 16)), TemporalCritic((16,) * 5)
    for net in nets: assert not [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Conv3d))]
    stage = volume_stage(16, 32, (1, 2, 2), spectral_volume, 3)
    assert stage[0].downsample[0].weight_orig.shape == (32, 16, 3, 3, 3) and stage[1].downsample is None


def test_gradient_penalty_reaches_the_weights():
    "Of a quadratic critic a |x|^2 it is 4 a^2 |x|^2 per sample; its derivative by a is 8 a |x|^2."
    a, x = torch.tensor(3., requires_grad=True), torch.randn(4, 2, 3, requires_grad=True)
    penalty, size = gradient_penalty(a * x.square().flatten(1).sum(1), x), x.detach().square().flatten(1).sum(1)
    torch.testing.assert_close(penalty, 36 * size)
    torch.testing.assert_close(torch.autograd.grad(penalty.sum(), a)[0], 24 * size.sum())


def test_divergence_and_weights():
    assert kl_mean(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)) == 0
    at = torch.ones(2, requires_grad=True)
    assert adaptive_weight(at.sum() * 1e9, at.sum(), at) == 1e4                        # clamped
    assert adaptive_weight(at.sum() * 0, at.sum(), at) == 0
    assert [ramp(step, 10, 20, 1., 3.) for step in (0, 10, 15, 20, 99)] == [1, 1, 2, 3, 3]
