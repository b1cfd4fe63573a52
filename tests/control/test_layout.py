"Who stands where: streams, prefixes, what is learnt, and windows cut for training."
import pytest
import torch

from ccvs.control.end_frame import end_control, end_prefix, end_windows
from ccvs.control.label import label_control, label_numbers, label_prefix
from ccvs.control.layout import (Windows, join_prefixes, lay_out, prefix_tokens, start_control, start_prefix, stream_segments, token_control, training_segments,
                                 unweave, weave)
from ccvs.core.seed import torch_rng
from ccvs.prior.transformer import PRESETS, Table, TransformerCfg, build_transformer

pytestmark = pytest.mark.usefixtures('one_thread')

SIZES = dict(vocab=24, layers=2, heads=2, width=16, grid=(2, 2), frames=6)
PLAIN = TransformerCfg(**SIZES, capacity=24)
STEERED = TransformerCfg(**SIZES, capacity=36, control_vocab=7, control_tokens=2)


def codes(rows, frames): return torch.randint(24, (rows, frames, 2, 2), generator=torch_rng(1, frames))
def steer(rows, frames): return torch.randint(7, (rows, frames, 2), generator=torch_rng(2, frames))


@pytest.mark.parametrize('cfg', [PLAIN, STEERED], ids=['plain', 'steered'])
def test_unweaving_undoes_weaving(cfg):
    clip, control = codes(2, 5), steer(2, 5) if cfg.control_tokens else None
    again, tokens = unweave(weave(clip.flatten(1), control, cfg), cfg)
    assert torch.equal(again, clip) and (tokens is control is None or torch.equal(tokens, control))


def test_published_lengths():
    "Spec appendix B: 1023 codes and 32 states make 1055 positions, 31 of which predict states; 64 codes with all states given make 68, with two 66."
    cfg = PRESETS['bair_state']
    clip, states = torch.zeros(1, 1024, dtype=torch.long), torch.zeros(1, 16, 2, dtype=torch.long)
    assert [weave(clip[:, :n], states[:, :m], cfg).shape[1] for n, m in ((1023, 16), (64, 16), (64, 1))] == [1055, 68, 66]
    segments = training_segments(weave(clip, states, cfg), [], cfg)
    learnt = {table: sum(part.tokens.shape[1] for part in segments if part.table is table and part.predicted) for table in (Table.FRAME, Table.CONTROL)}
    assert learnt == {Table.FRAME: 1024, Table.CONTROL: 32}            # the very first has no position before it


def test_places():
    "Control tokens and codes of a frame share its row of the temporal table; slots are counted in their own tables."
    parts = stream_segments(weave(codes(1, 2).flatten(1), steer(1, 2), STEERED), STEERED)
    assert [(part.table, part.time.tolist(), part.slot.tolist()) for part in parts] == [
        (Table.CONTROL, [0, 0], [0, 1]), (Table.FRAME, [0] * 4, [0, 1, 2, 3]), (Table.CONTROL, [1, 1], [0, 1]), (Table.FRAME, [1] * 4, [0, 1, 2, 3])]


@pytest.mark.parametrize('start, labels, end, first', [(False, 0, False, False), (True, 0, False, True), (False, 3, False, True), (False, 0, True, False), (True, 3, True, True)])
def test_the_first_code_is_learnt_where_a_clip_can_begin_from_nothing(start, labels, end, first):
    "Changing what is said before the first code changes the loss of the first code only if that is learnt: compare with a stream whose first code is another."
    cfg = TransformerCfg(**SIZES, capacity=28, start=start, labels=labels)
    clip, parts = codes(2, 3).flatten(1), [start_prefix(cfg, 2, torch.device('cpu'))]
    if labels: parts.insert(0, label_prefix(torch.tensor([0, 1]), cfg))
    if end: parts.append(end_prefix(codes(2, 1), 4, cfg))
    segments = training_segments(clip, join_prefixes(*parts)(0), cfg)
    position = sum(part.tokens.shape[1] for part in segments) - 12
    marks = torch.cat([torch.full((part.tokens.shape[1],), part.predicted) for part in segments])
    assert marks[position].item() is (first or position == 0) and marks[position + 1:].all() and not marks[:position].any()


def test_the_loss_of_several_controls_is_that_of_one_long_sequence():
    "Label, start, control tokens and an end frame: the terms by hand from the logits."
    cfg = TransformerCfg(**SIZES, capacity=40, start=True, labels=3, control_vocab=7, control_tokens=2)
    net = build_transformer(cfg, torch_rng(0))
    windows = Windows(codes(2, 5), torch.tensor([1, 0]), torch.tensor([0, 1]))
    control, labels = steer(2, 6), torch.tensor([2, 1])
    segments = lay_out(windows, [label_control(labels, cfg), start_control(cfg), token_control(control), end_control(cfg)], cfg)
    terms = net.terms(segments)
    logits = net(segments)[:, :-1].log_softmax(-1)
    order = torch.cat([part.tokens for part in segments], 1)[:, 1:]
    frame, steered = [], []
    at = 1 + 1 + 4 - 1                                                   # label, start, end; the last of them predicts the first control token
    for _ in range(4):
        for kind, count in ((steered, 2), (frame, 4)):
            for _ in range(count):
                rows = logits[:, at] if kind is frame else logits[:, at, :7].log_softmax(-1)
                kind.append(-rows.gather(1, order[:, at, None]))
                at += 1
    assert at == order.shape[1]
    torch.testing.assert_close(terms[Table.FRAME], torch.cat(frame).mean(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(terms[Table.CONTROL], torch.cat(steered).mean(), atol=1e-5, rtol=1e-5)
    assert segments[0].tokens.flatten().tolist() == [1, 2]               # the labels of clips 1 and 0
    assert torch.equal(segments[3].tokens, control[torch.tensor([1, 0]), torch.tensor([0, 1])])


def test_end_frames_come_from_later_in_the_same_window_with_their_control_tokens():
    total = 6
    clip = torch.arange(total).view(1, total, 1, 1).expand(40, total, 2, 2)
    windows = Windows(clip, torch.arange(40), torch.zeros(40, dtype=torch.long), control=torch.arange(total).view(1, total, 1).expand(40, total, 2) % 7)
    torch.manual_seed(3)
    kept, prefix = end_control(STEERED, 4)(windows)
    far, end, begin = prefix(0)[0].time[:, 0], prefix(0)[0].tokens[:, 0], kept.codes[:, 0, 0, 0]
    assert torch.equal(end, begin + far) and kept.codes.shape == (40, 3, 2, 2) and torch.equal(kept.control[..., 0], kept.codes[..., 0, 0])
    assert set(far.tolist()) == {3, 4, 5} and set(begin.tolist()) == {0, 1, 2, 3} - ({3} if 3 not in begin else set())
    assert int(end.max()) == 5 and torch.equal(kept.first, begin)


def test_a_share_of_the_batches_has_no_end_frame():
    clip = torch.arange(6).view(1, 6, 1, 1).expand(2, 6, 2, 2)
    windows = Windows(clip, torch.arange(2), torch.zeros(2, dtype=torch.long))
    torch.manual_seed(0)
    made = [end_control(PLAIN, 4, .75)(windows) for _ in range(200)]
    assert .65 < sum(prefix is not None for _, prefix in made) / 200 < .85
    assert all(kept.codes.shape == (2, 3, 2, 2) for kept, _ in made)


def test_published_end_frame():
    "15 frames and the end, always 15 apart (spec 7.4), in 1024 places."
    cfg = PRESETS['bair']
    assert end_windows(cfg) == 16
    windows = Windows(torch.zeros(2, 16, 8, 8, dtype=torch.long), torch.arange(2), torch.zeros(2, dtype=torch.long))
    segments = lay_out(windows, [end_control(cfg)], cfg)
    assert prefix_tokens(segments[:1]) == 64 and (segments[0].time == 15).all() and sum(part.tokens.shape[1] for part in segments) == 1024


def test_what_is_beyond_the_capacity_is_left_out():
    windows = Windows(codes(1, 9), torch.tensor([0]), torch.tensor([0]))
    assert lay_out(windows, [], PLAIN)[0].tokens.shape[1] == 24


@pytest.mark.parametrize('labels, names, batch, wanted', [('b', ('a', 'b'), 2, [1, 1]), (1, (), 1, [1]), (['b', 'a'], ('a', 'b'), 2, [1, 0]), (torch.tensor([2, 0]), (), 2, [2, 0])])
def test_labels_by_name_and_number(labels, names, batch, wanted):
    assert label_numbers(labels, names, batch).tolist() == wanted
