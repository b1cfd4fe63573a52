"""Cached sampling gives the codes of the definition, whatever the window, the slide, the batch; and memory does not grow."""
import gc

import pytest
import torch

from ccvs.control.end_frame import end_prefix
from ccvs.control.label import label_prefix
from ccvs.control.layout import join_prefixes, start_prefix
from ccvs.core.seed import torch_rng
from ccvs.prior.choice import ChoiceCfg, frame_uniforms, next_token_probs, pick_tokens
from ccvs.prior.transformer import Segment, Table, TransformerCfg, build_transformer
from ccvs.synth import sampling
from ccvs.synth.sampling import (SamplingCfg, generate, generate_tokens, generate_uncached, stream_codes, stream_tokens, stream_uncached,
                                 together, window_start)


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
    reads, begin = [], sampling.Reader.begin
    monkeypatch.setattr(sampling.Reader, 'begin', lambda self, *args: reads.append(1) or begin(self, *args))
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
    "The head is as wide as the wider alphabet; each kind of token has only its own."
    net, steer = toy(vocab=4, control_vocab=24, control_tokens=1, capacity=30), torch.zeros(2, 1, 1, dtype=torch.long)
    made = generate_tokens(net, prompt(2, 4) % 4, 4, samples=8, cfg=SamplingCfg(top_k=None), control=steer)
    assert made.codes.max() == 3 and made.control.max() > 3
    narrow = toy(vocab=24, control_vocab=4, control_tokens=1, capacity=30)
    made = generate_tokens(narrow, prompt(2, 4), 4, samples=8, cfg=SamplingCfg(top_k=None), control=steer)
    assert made.codes.max() > 3 and made.control.max() == 3


def steer(rows, frames, tokens=2, kinds=7):
    return torch.randint(kinds, (rows, frames, tokens), generator=torch_rng(2, frames))


STEERED = dict(frames=12, capacity=48, control_vocab=7, control_tokens=2)
CHOICES = [dict(top_k=5, control=ChoiceCfg(top_k=3)), dict(greedy=True), dict(top_k=None, temperature=1.3, control=ChoiceCfg(greedy=True))]


def both(net, given, frames, **more):
    "The tokens of the sampler, after a look whether the definition says the same."
    found, wanted = generate_tokens(net, given, frames, **more), together(stream_uncached(net, given, frames, **more))
    assert torch.equal(found.codes, wanted.codes)
    assert found.control is wanted.control is None or torch.equal(found.control, wanted.control)
    return found


@pytest.mark.parametrize('choice', CHOICES, ids=str)
@pytest.mark.parametrize('told', [1, 2, 5, 8, 30], ids='told{}'.format)
@pytest.mark.parametrize('window, slide', [(None, 1), (3, 1), (3, 2), (2, 1)])
def test_control_tokens_told_and_sampled(window, slide, told, choice):
    "Within the window and sliding; told for the given frames only, for some frames more, for all and beyond."
    cfg, path = SamplingCfg(window=window, slide=slide, **choice), steer(2, told)
    made = both(toy(**STEERED), prompt(2, 4), 7, samples=2, cfg=cfg, control=path)
    known = min(told, 8) - 1
    assert torch.equal(made.control[:, :known], path[:, 1:known + 1].repeat_interleave(2, 0))
    if known < 7 and not (choice.get('greedy') or choice['control'].greedy): assert not torch.equal(made.control[0::2, known:], made.control[1::2, known:])


def test_what_is_told_matters_and_only_from_then_on():
    net, given, path = toy(**STEERED), prompt(2, 4), steer(2, 8)
    other = path.clone(); other[:, 5] = (other[:, 5] + 1) % 7
    one, two = (generate(net, given, 7, cfg=SamplingCfg(top_k=5), control=x) for x in (path, other))
    assert torch.equal(one[:, :4], two[:, :4]) and not torch.equal(one[:, 4:], two[:, 4:])


@pytest.mark.parametrize('length, told', [(0, 1), (0, 6), (3, 1), (4, 2), (5, 2), (14, 4)])
def test_any_beginning_with_control(length, told):
    "From a path alone; inside a frame; with the tokens of the next frame known before its codes (spec 12, B10)."
    both(toy(**STEERED), prompt(2, length), 4, samples=2, cfg=SamplingCfg(top_k=5, window=3), control=steer(2, told))


def test_from_nothing_the_control_is_sampled_too():
    made = both(toy(start=True, **STEERED), prompt(2, 0), 4, samples=3, cfg=SamplingCfg(top_k=5))
    assert made.control.shape == (6, 4, 2) and made.control.unique().numel() > 3


@pytest.mark.parametrize('steered', [False, True])
@pytest.mark.parametrize('window, slide', [(None, 1), (3, 1), (3, 2)])
def test_everything_at_once(window, slide, steered):
    "Label, start token, an end frame at its own distance for every sample, and control tokens."
    net = toy(**STEERED | (dict() if steered else dict(control_vocab=0, control_tokens=0)), start=True, labels=3)
    device, cfg = torch.device('cpu'), SamplingCfg(top_k=5, window=window, slide=slide)
    end = prompt(2, 6)[:, :4]
    prefix = join_prefixes(label_prefix(torch.tensor([2, 0]), net.cfg), start_prefix(net.cfg, 2, device), end_prefix(end, torch.tensor([9, 10]), net.cfg))
    more = dict(samples=2, cfg=cfg, control=steer(2, 5) if steered else None)
    made = both(net, prompt(2, 4), 8, prefix=prefix, **more)
    for changed in (join_prefixes(label_prefix(torch.tensor([1, 0]), net.cfg), start_prefix(net.cfg, 2, device), end_prefix(end, torch.tensor([9, 10]), net.cfg)),
                    join_prefixes(label_prefix(torch.tensor([2, 0]), net.cfg), start_prefix(net.cfg, 2, device), end_prefix(end, torch.tensor([8, 10]), net.cfg))):
        other = generate(net, prompt(2, 4), 8, prefix=changed, **more)                # the first input was changed, the second was not
        assert not torch.equal(other[:2], made.codes[:2]) and torch.equal(other[2:], made.codes[2:])


def test_an_end_frame_takes_room_in_the_window():
    "Published: 1024 places, 64 of them for the end frame (spec 7.3)."
    cfg = TransformerCfg(grid=(8, 8), frames=16, capacity=1024)
    end = torch.zeros(1, 64, dtype=torch.long)
    assert sampling.window_frames(cfg, SamplingCfg(), end_prefix(end, 15, cfg)(0)) == 15 == sampling.window_frames(cfg, SamplingCfg()) - 1


@pytest.mark.parametrize('steered', [False, True])
@pytest.mark.parametrize('window, slide', [(None, 1), (3, 1), (3, 2), (2, 1)])
def test_step_by_step(window, slide, steered):
    "Every frame is remembered otherwise than it was sampled (spec 7.9); here by other codes, in earnest by those of the decoded frame."
    net, cfg = toy(start=True, **STEERED) if steered else toy(start=True), SamplingCfg(top_k=5, window=window, slide=slide)
    more = dict(samples=2, cfg=cfg, control=steer(2, 4) if steered else None)
    made = both(net, prompt(2, 4), 7, feedback=lambda codes: (codes + 1) % 24, **more)
    plain, same = generate(net, prompt(2, 4), 7, **more), generate(net, prompt(2, 4), 7, feedback=lambda codes: codes, **more)
    assert torch.equal(same, plain) and torch.equal(made.codes[:, 0], plain[:, 0]) and not torch.equal(made.codes, plain)


def test_codes_draw_the_same_numbers_with_and_without_control():
    "Told what it would have sampled, the clip is the same."
    net, given, cfg = toy(**STEERED), prompt(2, 4), SamplingCfg(top_k=5)
    free = generate_tokens(net, given, 6, cfg=cfg, control=steer(2, 1))
    told = generate_tokens(net, given, 6, cfg=cfg, control=torch.cat([steer(2, 1), free.control], 1))
    assert torch.equal(free.codes, told.codes) and torch.equal(free.control, told.control)


def test_a_steered_sample_does_not_depend_on_its_batch():
    net, cfg, path = toy(**STEERED), SamplingCfg(top_k=5, window=3), steer(1, 3)
    every = generate_tokens(net, prompt(1, 4), 6, samples=6, seed=3, cfg=cfg, control=path)
    for row in range(6):
        alone = generate_tokens(net, prompt(1, 4), 6, seed=3, cfg=cfg, control=path, first_sample=row)
        assert torch.equal(alone.codes[0], every.codes[row]) and torch.equal(alone.control[0], every.control[row])


def test_a_thousand_steered_frames_in_constant_memory():
    net = toy(layers=1, width=8, heads=1, grid=(1, 2), frames=3, capacity=12, control_vocab=3, control_tokens=2)
    for n, made in enumerate(stream_tokens(net, prompt(1, 2), 1000, samples=2, control=steer(1, 5, kinds=3), feedback=lambda codes: codes)):
        if n == 20: early = tensor_bytes()
    assert n == 999 and tensor_bytes() <= early


@pytest.mark.parametrize('control, said', [(steer(2, 1), 'found \\(2, 1, 2'), (steer(1, 1, 3), 'must be'), (steer(1, 1) + 7, 'control tokens must lie in'), (None, 'control tokens for 0')])
def test_control_tokens_of_the_wrong_kind(control, said):
    with pytest.raises(ValueError, match=said): generate(toy(**STEERED), prompt(1, 4), 2, control=control)
