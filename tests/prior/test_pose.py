"The pose estimator and its scalar codebook."
import pytest
import torch

from ccvs.nn.quantize import nearest_codes
from ccvs.prior.pose import PRESETS, PoseCfg, build_pose

pytestmark = pytest.mark.usefixtures('one_thread')


def toy(**more):
    torch.manual_seed(0)
    return build_pose(PoseCfg(**dict(grid=(4, 4), latent_width=8, width=8, bins=16) | more))


def test_golden_value():
    "Spec appendix B: the estimator on the features of the deterministic images, H_s = 8, Z = 16."
    from ccvs.codec.frame import FrameCodecCfg, build_frame_codec

    def filled(net):
        with torch.no_grad():
            for rank, (name, p) in enumerate(sorted(net.named_parameters())):
                wave = torch.sin(12.9898 * torch.arange(p.numel(), dtype=torch.float64) + 78.233 * rank)
                p.copy_(((0.1 if name.endswith('.bias') else 1.) * wave).view(p.shape))
        return net
    b, c, y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (2, 3, 64, 64)), indexing='ij')
    image = torch.sin(.05 * (x + 1) * (c + 1) + .07 * (y + 1) + b).float()
    codec = build_frame_codec(FrameCodecCfg(64, (32, 32, 64, 64), latent_width=16, codes=8))
    pose = build_pose(PoseCfg((8, 8), 16, 8))
    with torch.no_grad(): found = filled(pose.estimator)(filled(codec.encoder)(image).feats)
    torch.testing.assert_close(found, torch.tensor([[.467850, .489351]] * 2), atol=2e-4, rtol=0)   # printed rounded, for both samples


@pytest.mark.parametrize('grid, convs, inputs', [((8, 8), 3, 1), ((4, 8), 2, 2), ((2, 2), 1, 1), ((8, 4), 2, 2)])
def test_halved_until_one_side_is_one(grid, convs, inputs):
    pose = toy(grid=grid)
    assert len(pose.estimator.convs) == convs and pose.estimator.fc.weight.shape == (2, 8 * inputs)
    assert pose.estimate(torch.zeros(2, 3, 8, *grid)).shape == (2, 3, 2)


def test_tokens_are_the_nearest_scalars():
    pose, numbers = toy(), torch.rand(5, 3, 2)
    book = pose.quantizer.embedding.weight
    assert torch.equal(pose.encode(numbers), (numbers[..., None] - book[:, 0]).abs().argmin(-1))
    assert torch.equal(pose.decode(pose.encode(numbers)), book[:, 0][pose.encode(numbers)])
    assert ((book >= 0) & (book <= 1)).all() and torch.equal(nearest_codes(book, book), pose.encode(book)[:, 0])


def test_the_loss_moves_scalars_and_estimator():
    pose = toy()
    loss = pose.loss(torch.randn(4, 8, 4, 4), torch.rand(4, 2))
    loss.total.backward()
    assert torch.isclose(loss.total, loss.recon + loss.codebook)
    assert all(p.grad.abs().sum() > 0 for p in pose.parameters())


def test_published_size():
    with torch.device('meta'): pose = build_pose(PRESETS['bair'])
    assert sum(p.numel() for p in pose.estimator.parameters()) == 885_378 and pose.quantizer.embedding.weight.shape == (128, 1)
