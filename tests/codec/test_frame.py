"""The frame codec: golden values of the specification, invariants, errors."""
import pytest
import torch

from ccvs.codec.frame import PRESETS, FrameCodecCfg, build_frame_codec
from ccvs.codec.motion import InterBlock, fuse_contexts
from tests.golden import fill, wave


def close(tensor, mean, std, **elements):
    "Compare mean, biased deviation and single elements with printed values."
    flat = tensor.flatten()
    found = torch.stack([flat.mean(), flat.std(unbiased=False), *(flat[int(at[1:])] for at in elements)])
    torch.testing.assert_close(found, torch.tensor([mean, std, *elements.values()]), rtol=0, atol=1e-4)  # the appendix's


@pytest.fixture(scope='module')
def golden():
    codec = build_frame_codec(FrameCodecCfg(64, (32, 32, 64, 64), latent_width=16, codes=32)).eval()
    for part in (codec.encoder, codec.decoder): fill(part)
    with torch.no_grad(): encoded = codec.encode(wave(0, 2, 3, 64, 64))
    return codec, encoded


def count(part): return sum(p.numel() for p in part.parameters())


def test_golden_encoder(golden):
    codec, (feats, skips) = golden
    assert (count(codec.encoder), count(codec.decoder)) == (128_432, 1_482_939)
    close(feats, .041590, .080708, _0=-.002712, _682=.233961, _1024=-.002779, _2047=-.024598)
    close(skips[0], .179914, .316119, _0=-.005527, _65536=-.022780, _196607=.220263)
    close(skips[1], .154454, .284495, _0=-.017378, _16384=-.002567, _49151=.119838)
    close(skips[2], .340002, .639787, _0=-.063327, _8192=-.068712, _24575=.043208)
    close(skips[3], .021959, .171123, _0=.193204, _2048=.120730, _6143=.085572)


@torch.no_grad()
def test_golden_decoder(golden):
    codec, (feats, skips) = golden
    one, two = (codec.encode(wave(offset, 2, 3, 64, 64)).skips for offset in (.3, -.4))
    close(codec.decode(feats).frames, .219589, .101145, _0=.054155, _8192=.143051, _24575=.141715)
    helped = codec.decode(feats, [one])
    close(helped.frames, .101290, .083688, _0=.016482, _8192=.044242, _12288=.035334, _24575=-.018789)
    close(helped.motions[0], -.001984, .007401, _0=.009508, _85=.006206, _255=-.000867)
    close(helped.motions[1], .064517, .008797, _0=.087564, _341=.055326, _1023=.050883)
    close(helped.motions[2], .095907, .028333, _0=.141644, _1365=.085740, _4095=.111024)
    close(helped.motions[3], -.143264, .064362, _0=-.037526, _5461=-.174806, _16383=-.247477)
    close(helped.occlusions[3], -.120708, .066873, _0=-.163078, _2730=-.129459, _8191=-.135844)
    both = codec.decode(feats, [one, two])
    close(both.frames, .097199, .080837, _0=.010221, _8192=.045303, _12288=.030533, _24575=-.027930)
    close(both.motions[3], -.143249, .064343, _0=-.037401, _10922=-.116033, _32767=-.247471)
    close(codec.decode(feats, [skips]).frames, .101368, .083554, _0=.006434, _8192=.054454, _12288=.033490, _24575=-.029423)


@torch.no_grad()
def test_order_of_contexts_is_irrelevant(golden):
    codec, (feats, _) = golden
    contexts = [codec.encode(wave(offset, 2, 3, 64, 64)).skips for offset in (.3, -.4, .1)]
    forth, back = codec.decode(feats, contexts).frames, codec.decode(feats, contexts[::-1]).frames
    torch.testing.assert_close(forth, back, rtol=1e-4, atol=1e-5)                                # order of sums


@torch.no_grad()
def test_equal_contexts_count_as_one(golden):
    codec, (feats, skips) = golden
    once, thrice = codec.decode(feats, [skips]).frames, codec.decode(feats, [skips] * 3).frames
    torch.testing.assert_close(once, thrice, rtol=1e-4, atol=1e-5)                               # order of sums


@torch.no_grad()
def test_samples_of_a_batch_do_not_mix():
    torch.manual_seed(0)
    codec = build_frame_codec(PRESETS['tiny'])
    z_q = torch.randn(3, 16, 4, 4)
    contexts = [codec.encode(torch.rand(3, 3, 32, 32) * 2 - 1).skips for _ in range(2)]
    together, motions, _ = codec.decode(z_q, contexts)
    for i in range(3):
        alone = codec.decode(z_q[i:i + 1], [[skip[i:i + 1] for skip in skips] for skips in contexts])
        torch.testing.assert_close(together[i:i + 1], alone.frames, rtol=1e-4, atol=1e-5)        # order of sums
        torch.testing.assert_close(motions[-1][2 * i:2 * i + 2], alone.motions[-1], rtol=1e-4, atol=1e-5)


def test_context_that_is_hidden_is_left_out():
    feats = torch.stack([torch.zeros(3, 2, 2), torch.ones(3, 2, 2)])
    logits = torch.tensor([-20., 20.]).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    fused, logit = fuse_contexts(feats, logits, 2)
    assert fused.max() < 1e-5 and logit.max() < -19.9


def test_sure_block_copies_its_context():
    "No motion and 'surely visible': the output is the context itself."
    torch.manual_seed(0)
    block = InterBlock(0, 12, (8, 8, 8))
    for unit in (block.matching, block.subpixel):
        for head in (unit.flow_head[0], unit.occ_head[0]): head.weight.data.zero_()
        unit.occ_head[0].bias.data.fill_(-20)
    context = torch.randn(2, 12, 4, 4)
    fused, estimate = block(torch.randn(2, 12, 4, 4), [context], None)
    assert (estimate.motion == 0).all() and (estimate.occlusion == -40).all()
    torch.testing.assert_close(fused, context, rtol=0, atol=1e-5)                                # rounding of the grid


def test_every_weight_learns():
    torch.manual_seed(0)
    codec = build_frame_codec(PRESETS['tiny'])
    frames = torch.rand(2, 3, 32, 32) * 2 - 1
    feats, skips = codec.encode(frames)
    quantized = codec.quantize(feats)
    out = codec.decode(quantized.z_q, [skips, [s.roll(1, 0) for s in skips]])
    (out.frames.square().mean() + quantized.loss).backward()
    assert [name for name, p in codec.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_rectangular_frames():
    codec = build_frame_codec(FrameCodecCfg((16, 32), (8, 8, 8), 8, 16, motion_widths=(8, 8, 8)))
    assert codec.quantize(codec.encode(torch.zeros(1, 3, 16, 32)).feats).codes.shape == (1, 4, 8)


def test_codec_without_memory():
    codec = build_frame_codec(FrameCodecCfg(16, (8, 8), 8, 16, memory=False))
    assert not any('inter' in key for key in codec.state_dict())
    assert codec(torch.zeros(1, 3, 16, 16)).shape == (1, 3, 16, 16)
    feats, skips = codec.encode(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match='without memory'): codec.decode(feats, [skips])


def test_errors_name_what_to_do():
    with pytest.raises(ValueError, match='multiple of 16'): build_frame_codec(FrameCodecCfg(size=40))
    codec = build_frame_codec(PRESETS['tiny'])
    with pytest.raises(ValueError, match='resize'): codec.encode(torch.zeros(1, 3, 64, 64))
