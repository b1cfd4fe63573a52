"The sound codec: shapes, order of codes, what its loss teaches."
import pytest
import torch

from ccvs.codec.sound import PRESETS, SoundCodecCfg, build_sound_codec, sound_loss
from ccvs.data.sound import SliceCfg
from ccvs.nn.losses import PerceptualLoss, vgg_trunk

pytestmark = pytest.mark.usefixtures('one_thread')


def toy(**more):
    torch.manual_seed(0)
    return build_sound_codec(SoundCodecCfg(**dict(width=8, latent_width=8, codes=64) | more))


@pytest.mark.parametrize('rows, columns', [(64, 16), (32, 8), (16, 16)])
def test_shapes(rows, columns):
    codec = toy(slices=SliceCfg(window=2 * rows, rows=rows, columns=columns))
    codes = codec.encode(torch.rand(2, 3, 1, rows, columns))
    assert codes.shape == (2, 3, rows * columns // 64) == (2, 3, codec.cfg.tokens)
    assert codec.decode(codes).shape == (2, 3, 1, rows, columns)


@torch.no_grad()
def test_codes_go_row_by_row_pitch_first():
    "A change at low pitch early on touches the first codes only; the grid is 8 x 2."
    codec, slices = toy(), torch.rand(1, 1, 64, 16) * 2 - 1
    feats = codec.encoder(torch.cat([slices] * 8) + torch.rand(8, 1, 64, 16)).movedim(1, -1).flatten(0, -2)
    codec.quantizer.embedding.weight.copy_(feats[:64])
    other = slices.clone(); other[..., -4:, -4:] = -1                  # highest pitch, end of the frame
    changed = (codec.encode(slices) != codec.encode(other))[0].nonzero().flatten().tolist()
    assert changed and min(changed) >= 8 and 15 in changed            # the last of two columns, the upper rows
    codes = torch.arange(16)[None]
    grid = codec.quantizer.lookup(codes.view(1, 8, 2))
    assert torch.equal(codec.decode(codes), codec.decoder(grid))


def test_the_perceptual_term_is_a_number_and_no_teacher():
    "Spec 12, B15: the reconstruction is the detached argument."
    codec, slices = toy(), torch.rand(2, 1, 64, 16)
    plain, seen = sound_loss(codec, slices), sound_loss(codec, slices, PerceptualLoss(vgg_trunk((4, 4, 4, 4, 4))))
    assert plain.perceptual is None and seen.perceptual > 0
    torch.testing.assert_close(seen.total, plain.total + seen.perceptual)
    gradients = [torch.autograd.grad(loss.total, codec.decoder.parameters(), retain_graph=True) for loss in (plain, seen)]
    assert all(torch.equal(a, b) for a, b in zip(*gradients))


def test_the_output_is_squeezed_below_zero():
    "The last layer goes through a leaky ReLU before tanh: with its weights at zero, a bias b gives tanh(b) above and tanh(b / 10) below."
    codec = toy()
    last = codec.decoder.convs[-1][0]
    with torch.no_grad():
        last.weight.zero_()
        for bias in (.5, -.5):
            last.bias.fill_(bias)
            wanted = torch.tensor(bias if bias > 0 else bias / 10).tanh()
            torch.testing.assert_close(codec.decode(torch.zeros(1, 16, dtype=torch.long)), wanted.expand(1, 1, 64, 16))


def test_published_sizes():
    with torch.device('meta'): codec = build_sound_codec(PRESETS['drums'])
    assert [sum(p.numel() for p in part.parameters()) for part in (codec.encoder, codec.decoder)] == [9_440_256, 9_439_745]
    assert codec.quantizer.embedding.weight.shape == (1024, 512) and codec.cfg.tokens == 16
