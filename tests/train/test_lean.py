"Weights to begin with do what they promise before any training."
from copy import deepcopy

import pytest
import torch

from ccvs.control.layout import stream_segments, training_segments, weave
from ccvs.core.config import override
from ccvs.prior.transformer import PRESETS as TRANSFORMERS, build_transformer, plain_segments
from ccvs.train.lean import lean_on_path, lean_on_previous

pytestmark = pytest.mark.usefixtures('one_thread')


def test_a_leaning_transformer_repeats_what_stands_still():
    "Frames of random codes that never change: after the first, every code is the likeliest one, and no gradient step was taken."
    cfg = override(TRANSFORMERS['worlds64'], vocab=256, grid=(4, 4), capacity=128)
    net = build_transformer(cfg, torch.Generator().manual_seed(0))
    still = torch.randint(256, (4, 16), generator=torch.Generator().manual_seed(1)).repeat(1, 8)
    torch.manual_seed(0)
    with torch.no_grad():
        before, after = (model(plain_segments(still, cfg))[:, 16:-1].argmax(-1) == still[:, 17:] for model in (net, lean_on_previous(deepcopy(net))))
    assert before.float().mean() < .1
    assert after.float().mean() > .9     # the first slot of a frame is looked up one frame too late


def test_leaning_needs_four_heads():
    with pytest.raises(ValueError, match='4 heads'): lean_on_previous(build_transformer(override(TRANSFORMERS['tiny'], heads=2)))


def test_a_leaning_transformer_is_not_disturbed_by_control_tokens():
    "Two tokens before every frame, and an end frame and a start token before them all: still the previous frame is repeated."
    from ccvs.control.end_frame import end_prefix
    from ccvs.control.layout import join_prefixes, start_prefix
    cfg = override(TRANSFORMERS['worlds64'], vocab=256, grid=(4, 4), frames=12, capacity=160, control_vocab=32, control_tokens=2, start=True)
    source = torch.Generator().manual_seed(1)
    still, end = torch.randint(256, (4, 16), generator=source).repeat(1, 8), torch.randint(256, (4, 4, 4), generator=source)
    torch.manual_seed(0)
    net = lean_on_previous(build_transformer(cfg, torch.Generator().manual_seed(0)))
    before = join_prefixes(start_prefix(cfg, 4, still.device), end_prefix(end, 9, cfg))(0)
    segments = training_segments(weave(still, torch.randint(32, (4, 8, 2), generator=source), cfg), before, cfg)
    with torch.no_grad(): logits = net(segments)
    codes = torch.cat([part.tokens if part.table == 0 else torch.full_like(part.tokens, -1) for part in segments], 1)
    learnt = torch.arange(codes.shape[1]) >= 1 + 16 + 18 + 2                  # after the prefix and the first frame
    right = (logits[:, :-1, :256].argmax(-1) == codes[:, 1:])[:, learnt[1:] & (codes[0, 1:] >= 0)]
    assert right.float().mean() > .9


LED = override(TRANSFORMERS['worlds32'], control_vocab=64, control_tokens=2)


def said_after(net, places, steps, grid):
    "What is drawn in the last of three still frames of random codes, when the tip goes from the middle by so many slots (right, down)."
    nearest = lambda value: int((places - value).abs().argmin())
    middle = torch.tensor([[nearest(.5), nearest(.5)]] * 2 + [[nearest(.5 + steps[0] / grid[1]), nearest(.5 + steps[1] / grid[0])]]).expand(16, -1, -1)
    frames = torch.randint(net.cfg.vocab, (16, 1, net.cfg.frame_tokens), generator=torch.Generator().manual_seed(1)).repeat(1, 3, 1)
    with torch.no_grad(): logits = net(stream_segments(weave(frames.flatten(1), middle, net.cfg), net.cfg))
    said = logits[:, -net.cfg.frame_tokens - 1:-1, :net.cfg.vocab].argmax(-1)
    return said.unflatten(1, grid), frames[:, 0].unflatten(1, grid)


@pytest.mark.parametrize('steps', [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (0, 0)], ids=str)
@pytest.mark.parametrize('grid', [(16, 16), (10, 12), (8, 8)], ids=str)
def test_what_is_next_to_the_tip_goes_along_and_the_rest_stays(grid, steps):
    torch.manual_seed(0)
    places = (torch.arange(64) + .5)[torch.randperm(64)] / 64              # what a token stands for has nothing to do with its number
    net = lean_on_path(build_transformer(override(LED, grid=grid, frames=8, capacity=8 * (grid[0] * grid[1] + 2))), places)
    said, still = said_after(net, places, steps, grid)
    row, column = grid[0] // 2 + steps[1], grid[1] // 2 + steps[0]         # the tip is at the corner of four slots
    tip = slice(row - 1, row + 1), slice(column - 1, column + 1)
    assert (said == still.roll((steps[1], steps[0]), (1, 2)))[:, tip[0], tip[1]].float().mean() > .9
    far = torch.ones(grid, dtype=torch.bool)
    reach = min(4, min(grid) // 2 - 1)
    far[row - reach:row + reach, column - reach:column + reach] = far[0, 0] = False  # the first slot is looked up one frame too late
    assert (said == still)[:, far].float().mean() > .95


@pytest.mark.parametrize('change', [dict(heads=4), dict(width=96), dict(layers=1), dict(grid=(6, 6), capacity=256), dict(grid=(8, 16), capacity=1040),
                                    dict(grid=(24, 24), capacity=2312)], ids=str)
def test_leaning_on_a_path_needs_room(change):
    with pytest.raises(ValueError, match='or copy_first=False') as problem: lean_on_path(build_transformer(override(LED, **change)), torch.rand(64))
    assert '\n' not in str(problem.value)
