"""Cached sampling gives the codes of the definition, whatever the window, the slide, the batch; and memory does not grow."""
import gc

import pytest
import torch

from ccvs.core.seed import torch_rng
from ccvs.prior.transformer import Segment, Table, TransformerCfg, build_transformer
from ccvs.synth import sampling
from ccvs.synth.sampling import (SamplingCfg, frame_uniforms, generate, generate_uncached, next_token_probs, pick_tokens,
                                 stream_codes, window_start)


pytestmark = pytest.mark.usefixtures('one_thread')


def toy(**changes):
    "Large random weights, positions included: choices are neither certain nor uniform, and depend on what is far away."
    sizes = dict(vocab=24, layers=2, heads=4, width=32, grid=(2, 2), frames=6, capacity=24)
    net, source = build_transformer(TransformerCfg(**sizes | changes)), torch_rng(0, 'toy')
    with torch.no_grad():
        for name, p in net.named_parameters():
            if 'ln' not in name: p.normal_(0, 1 if 'emb' in name else 3 / p.shape[-1] ** .5 if p.ndim > 1 else .1, generator=source)
    return net


def prompt(rows, length):
    return torch.randint(24, (rows, length), generator=torch_rng(1, length))


def test_the_toy_is_no_degenerate_example():
    "Codes vary, samples differ, and what left the window mattered."
    given = prompt(2, 4)
    short, long = (generate(toy(), given, 8, samples=3, cfg=SamplingCfg(top_k=5, window=window)) for window in (2, 6))
    assert short.unique().numel() > 10
    assert len({tuple(row.flatten().tolist()) for row in short}) == 6
    assert (short[:, :1] == long[:, :1]).all() and (short != long).any()


@pytest.mark.parametrize('choice', [dict(top_k=5), dict(greedy=True), dict(top_k=None, temperature=1.3)])
@pytest.mark.parametrize('window, slide', [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (6, 1), (6, 2), (6, 4), (6, 6)])
def test_same_codes_as_the_definition(window, slide, choice):
    cfg, net = SamplingCfg(window=window, slide=slide, **choice), toy(start=True)
    given = prompt(2, 5)  # one frame and a quarter
    wanted = generate_uncached(net, given, 9, samples=2, cfg=cfg)
    assert wanted[:, 0, 0, 0].tolist() == given[:, 4].repeat_interleave(2).tolist()
    assert torch.equal(generate(net, given, 9, samples=2, cfg=cfg), wanted)


@pytest.mark.parametrize('length', [0, 1, 4, 20, 23, 24, 41])
def test_any_beginning(length):
    "From nothing, inside a frame, one frame short of the window, the whole window, more than it."
    net, given = toy(start=True), prompt(2, length)
    cfg = SamplingCfg(top_k=5)
    assert torch.equal(generate(net, given, 3, cfg=cfg), generate_uncached(net, given, 3, cfg=cfg))


def test_a_prefix_that_changes_as_the_window_slides():
    "An end frame comes nearer with every slide; per sample it may lie at another distance (spec 7.7)."
    net, given, end = toy(frames=12, capacity=48), prompt(2, 4), prompt(2, 6)[:, :4]
    def prefix(first): return [Segment(end, Table.FRAME, torch.tensor([[10], [9]]).expand(2, 4) - first, torch.arange(4))]
    cfg = SamplingCfg(top_k=5, window=4)
    found = generate(net, given, 8, samples=2, cfg=cfg, prefix=prefix)
    assert torch.equal(found, generate_uncached(net, given, 8, samples=2, cfg=cfg, prefix=prefix))
    still = generate(net, given, 8, samples=2, cfg=cfg, prefix=lambda first: prefix(0))
    assert torch.equal(found[:, :3], still[:, :3]) and not torch.equal(found, still)


@pytest.mark.parametrize('rows', [1, 3, 16])
def test_a_sample_does_not_depend_on_its_batch(rows):
    net, given = toy(), prompt(1, 4)
    every = generate(net, given, 8, samples=16, seed=3, cfg=SamplingCfg(top_k=10))
    parts = [generate(net, given, 8, samples=min(rows, 16 - row), seed=3, cfg=SamplingCfg(top_k=10), first_sample=row)
             for row in range(0, 16, rows)]
    assert torch.equal(torch.cat(parts), every)
    assert not torch.equal(generate(net, given, 8, samples=16, seed=4, cfg=SamplingCfg(top_k=10)), every)


def test_the_longer_clip_begins_like_the_shorter():
    net, given = toy(), prompt(2, 8)
    assert torch.equal(generate(net, given, 9)[:, :4], generate(net, given, 4))


def test_the_window_of_the_spec():
    "Frames 0 to 15 first, then one frame dropped for every new one; larger chunks go by as many."
    assert [window_start(k, 16, 1) for k in (0, 15, 16, 17, 44)] == [0, 0, 1, 2, 29]
    assert [window_start(k, 4, 2) for k in range(3, 10)] == [0, 2, 2, 4, 4, 6, 6]


def test_cache_is_rebuilt_exactly_when_the_window_slides(monkeypatch):
    reads, read = [], sampling.CachedReader.read
    monkeypatch.setattr(sampling.CachedReader, 'read', lambda self, *args: reads.append(1) or read(self, *args))
    for frame, _ in enumerate(stream_codes(toy(), prompt(1, 4), 10, cfg=SamplingCfg(window=4, slide=2)), 1):
        assert len(reads) == 1 + max(0, (frame - 2) // 2)  # frames 4, 6, 8, 10 of the clip begin with a rebuild


def tensor_bytes():
    gc.collect()
    return sum(x.untyped_storage().nbytes() for x in gc.get_objects() if type(x) is torch.Tensor)


def test_a_thousand_frames_in_constant_memory():
    net = toy(layers=1, width=8, heads=1, grid=(1, 2), frames=3, capacity=6)
    for n, codes in enumerate(stream_codes(net, prompt(1, 2), 1000, samples=2)):
        if n == 20: early = tensor_bytes()
    assert codes.shape == (2, 1, 2) and n == 999
    assert tensor_bytes() <= early  # a kept frame would add 32 bytes, a growing cache 128


def test_yielded_frames_are_the_callers_own():
    frames = stream_codes(toy(), prompt(1, 4), 3)
    first = next(frames)
    first += 1000  # must neither raise nor disturb what comes
    rest = torch.stack(list(frames), 1)
    assert torch.equal(rest, generate(toy(), prompt(1, 4), 3)[:, 1:])


def test_draws_follow_the_probabilities():
    "20,000 draws: a binomial share deviates by less than 4.5 standard errors (0.016)."
    probs = next_token_probs(torch.tensor([0., 1., 2., -1., 2.]), .8, 3)
    assert (probs > 0).sum() == 3
    found = pick_tokens(probs.expand(20_000, 5), torch.rand(20_000, dtype=torch.float64, generator=torch_rng(5)))
    torch.testing.assert_close(found.bincount(minlength=5) / 20_000, probs, rtol=0, atol=0.016)


def test_ties_with_the_kth_are_kept():
    assert (next_token_probs(torch.tensor([3., 1., 1., 1., 0.]), 1, 2) > 0).tolist() == [True] * 4 + [False]


def test_uniforms_are_named_by_sample_and_frame():
    one = frame_uniforms(7, range(4), 2, 16)
    assert torch.equal(frame_uniforms(7, [3, 1], 2, 16), one[[3, 1]])
    assert not torch.equal(frame_uniforms(7, range(4), 3, 16), one) and one.unique().numel() == 64


def test_codes_of_the_wider_alphabet_are_never_drawn():
    "The head is as wide as the control alphabet; frames have only their own codes."
    net = toy(vocab=4, control_vocab=24, control_tokens=1, capacity=30)
    assert generate(net, prompt(2, 4) % 4, 4, samples=8, cfg=SamplingCfg(top_k=None)).max() < 4
