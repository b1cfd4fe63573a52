"""The code transformer: sizes, golden values of spec appendix B, layouts, causality."""
import pytest
import torch

from ccvs.core.seed import torch_rng
from ccvs.prior.transformer import (PRESETS, Segment, Table, TransformerCfg, build_transformer, frame_segment, plain_segments,
                                    start_segment)

CODES = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]])
TINY = dict(vocab=10, layers=2, heads=2, width=8, grid=(2, 2), frames=3)


pytestmark = pytest.mark.usefixtures('one_thread')


def filled(cfg):
    "A transformer with the deterministic weights of appendix B, amplitude 0.5."
    net = build_transformer(cfg)
    with torch.no_grad():
        for rank, (name, p) in enumerate(sorted(net.named_parameters())):
            wave = torch.sin(12.9898 * torch.arange(p.numel(), dtype=torch.float64) + 78.233 * rank)
            p.copy_(((0.1 if name.endswith('.bias') else 0.5) * wave).view(p.shape))
    return net


def control(codes, frame):
    return Segment(codes[:, frame:frame + 1], Table.CONTROL, torch.tensor([frame]), torch.tensor([0]), predicted=True)


def close(row, values):  # the five printed digits
    torch.testing.assert_close(row, torch.tensor(values), rtol=0, atol=1e-4)


def test_golden_plain():
    net = filled(TransformerCfg(**TINY, capacity=12))
    close(net([frame_segment(CODES[:, :11], 4)])[0, -1],
          [0.06925, -0.17177, 0.26395, -0.34026, 0.39611, -0.42814, 0.43443, -0.41458, 0.36981, -0.30280])
    assert abs(net.loss(plain_segments(CODES, net.cfg)).item() - 2.421702) < 1e-5


def test_golden_end_frame():
    net = filled(TransformerCfg(**TINY, capacity=12))
    end = Segment(CODES[:, 8:], Table.FRAME, time=torch.full((1, 4), 2), slot=torch.arange(4))
    logits = net([end, frame_segment(CODES[:, :7], 4)])[0, 4:]
    assert len(logits) == 7
    close(logits[-1], [0.26983, -0.34039, 0.39048, -0.41708, 0.41861, -0.39496, 0.34756, -0.27927, 0.19417, -0.09741])


def test_golden_start_token():
    net = filled(TransformerCfg(**TINY, capacity=12, start=True))
    logits = net([start_segment(1, CODES.device), frame_segment(CODES[:, :11], 4)])[0]
    assert len(logits) == 12
    close(logits[0], [0.05437, -0.13688, 0.21116, -0.27274, 0.31792, -0.34399, 0.34936, -0.33373, 0.29803, -0.24441])


def test_golden_control_tokens():
    net = filled(TransformerCfg(**TINY, capacity=15, control_vocab=6, control_tokens=1))
    given, stream = torch.tensor([[2, 0, 5]]), []
    for f in range(3): stream += [control(given, f), frame_segment(CODES[:, 4 * f:min(4 * f + 4, 11)], 4, first=4 * f)]
    logits = net(stream)[0]
    assert len(logits) == 14
    close(logits[-1], [0.00347, -0.09183, 0.17468, -0.24702, 0.30450, -0.34368, 0.36219, -0.35891, 0.33406, -0.28911])
    close(logits[4], [-0.18088, 0.05625, 0.07175, -0.19545, 0.30739, -0.40084, 0.47020, -0.51127, 0.52160, -0.50057])


@pytest.mark.parametrize('changes, count', [
    (dict(), 304_490_496), (dict(start=True), 304_491_520), (dict(vocab=16384), 335_947_776),
    (dict(capacity=1056, control_vocab=128, control_tokens=2), 304_623_616),
    (dict(capacity=1280, control_vocab=1024, control_tokens=16), 305_555_456)])
def test_published_parameter_counts(changes, count):
    sizes = dict(vocab=1024, layers=24, heads=16, width=1024, grid=(8, 8), frames=16, capacity=1024)
    with torch.device('meta'): net = build_transformer(TransformerCfg(**sizes | changes))
    assert sum(p.numel() for p in net.parameters()) == count
    if not changes: assert PRESETS['bair'] == net.cfg


def test_two_alphabets_are_two_means():
    "Frame codes over the full head, control tokens over their own logits; the very first token is nobody's target (spec 7.4)."
    net = filled(TransformerCfg(**TINY, capacity=15, control_vocab=6, control_tokens=1))
    given, stream = torch.tensor([[2, 0, 5]]), []
    for f in range(3): stream += [control(given, f), frame_segment(CODES[:, 4 * f:4 * f + 4], 4, first=4 * f)]
    logits = net(stream)[0, :-1]
    ce = torch.nn.functional.cross_entropy
    at_control = torch.tensor([4, 9])
    at_frame = torch.tensor([n for n in range(14) if n not in (4, 9)])
    wanted = ce(logits[at_control, :6], given[0, 1:]) + ce(logits[at_frame], CODES[0])
    torch.testing.assert_close(net.loss(stream), wanted, rtol=1e-5, atol=1e-6)  # the same sums in another order


def test_later_tokens_change_nothing_earlier():
    net = build_transformer(PRESETS['tiny'], torch_rng(0))
    codes = torch.randint(32, (2, 40), generator=torch_rng(1))
    logits = net(plain_segments(codes, net.cfg))
    for n in (0, 15, 16, 39):
        other = codes.clone(); other[:, n] = (other[:, n] + 1) % 32
        change = (net(plain_segments(other, net.cfg)) - logits).abs().amax((0, 2))
        assert change[:n].max().item() == 0 if n else True
        assert change[n].item() > 0


def test_fresh_weights_are_those_of_the_spec():
    net = build_transformer(TransformerCfg(width=256, heads=8, start=True), torch_rng(0))
    assert not net.s_emb.any() and not net.t_emb.any() and not net.blocks[0].mlp[0].bias.any()
    assert 0.019 < net.head.weight.std() < 0.021 and 0.019 < net.tok_emb.weight.std() < 0.021
    assert 0.8 < net.start_tok_emb.std() < 1.2
    again = build_transformer(TransformerCfg(width=256, heads=8, start=True), torch_rng(0))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters()))


def test_it_learns_a_repeated_frame():
    net = build_transformer(PRESETS['tiny'], torch_rng(0))
    codes = torch.randint(32, (4, 16), generator=torch_rng(1)).repeat(1, 3)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(60):
        loss = net.loss(plain_segments(codes, net.cfg))
        optimizer.zero_grad(); loss.backward(); optimizer.step()
    assert loss.item() < 0.5 < 3.4 < torch.tensor(32.).log()  # from log 32 = 3.47
