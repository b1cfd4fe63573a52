"Losses for motion that is known: recorded values are in tests/parity; here the corners."
import pytest
import torch

from ccvs.nn.motion_losses import motion_recovery_loss, occlusion_loss

MOTION = torch.randn(2, 2, 16, 16)


@pytest.mark.parametrize('fill', [False, True])
def test_finite_whatever_is_masked(fill):
    masked = torch.full((2, 1, 16, 16), fill)
    motions = [torch.zeros(2, 2, s, s, requires_grad=True) for s in (4, 8, 16)]
    logit = torch.zeros(2, 1, 16, 16, requires_grad=True)
    flow, mask = motion_recovery_loss(motions, MOTION, masked), occlusion_loss(logit, masked)
    (flow + mask).backward()
    assert (flow == 0) == fill and (mask == 0) == (not fill)
    assert all(v.grad.isfinite().all() for v in (*motions, logit))


def test_means_by_hand():
    masked = torch.zeros(2, 1, 16, 16, dtype=torch.bool); masked[0] = True
    found = MOTION + torch.tensor([3., 4.]).view(1, 2, 1, 1)
    loss = motion_recovery_loss([found], MOTION, masked)              # one level: the code grid is the picture
    torch.testing.assert_close(loss, torch.tensor(12.5), rtol=1e-5, atol=0)     # (9 + 16) / 2, rounding
    torch.testing.assert_close(occlusion_loss(torch.zeros(2, 1, 16, 16), masked), torch.tensor(.25))


def test_masked_pixels_have_no_say():
    masked = torch.zeros(2, 1, 16, 16, dtype=torch.bool); masked[..., :8] = True
    found = MOTION.clone(); found[..., :8] = 1e6
    assert motion_recovery_loss([found], MOTION, masked) == 0


def test_no_levels():
    with pytest.raises(ValueError, match='decode with a context'): motion_recovery_loss([], MOTION, MOTION[:, :1] > 0)
