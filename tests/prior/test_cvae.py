"""The cVAE baseline; its recorded case is in tests/parity (iPOKE spec 5)."""
import pytest
import torch
from torch.testing import assert_close

from ccvs.core.config import override
from ccvs.prior.cvae import PRESETS, build_poke_vae

CFG = PRESETS['tiny']


@pytest.fixture(params=[True, False], ids=['stacked', 'as input'])
def vae(request):
    torch.manual_seed(0)
    return build_poke_vae(override(CFG, stacked=request.param)).eval()


def test_frames_depend_on_latent_poke_and_start(vae):
    start, poke, latent = torch.rand(1, 3, 32, 32) * 2 - 1, torch.randn(1, 3, 32, 32), torch.randn(1, 16, 4, 4)
    def play(latent=latent, poke=poke, start=start):
        with torch.no_grad(): return vae.decode(latent, vae.condition(start, poke), start, 3)
    frames = play()
    assert frames.shape == (1, 3, 3, 32, 32)
    for other in (play(latent=-latent), play(poke=-poke), play(start=-start)): assert (other - frames).abs().max() > 1e-3
    assert_close(play(), frames)


def test_reconstruction_uses_the_posterior(vae):
    clips, poke, noise = torch.rand(2, 5, 3, 32, 32) * 2 - 1, torch.randn(2, 3, 32, 32), torch.randn(2, 16, 4, 4)
    with torch.no_grad():
        played = vae(clips, poke, noise)
        mu, logvar = played.posterior.mu, played.posterior.logvar
        assert_close(played.posterior.sample, mu + (logvar / 2).exp() * noise)
        assert_close(played.frames, vae.decode(played.posterior.sample, vae.condition(clips[:, 0], poke), clips[:, 0]))
