"""Rolling codes out into frames: what is remembered, and for how long."""
from types import SimpleNamespace

import pytest
import torch

from ccvs.codec.frame import PRESETS, Decoded, Encoded, build_frame_codec
from ccvs.synth.rollout import rollout


def seen_by_frame(length, count, **options):
    "Which frames each frame is shown; a stand-in codec uses frame numbers as skips."
    log = []
    def decode(z_q, contexts=None):
        log.append([int(c) for c in contexts or []])
        return Decoded(z_q, [], [])
    codec = SimpleNamespace(cfg=SimpleNamespace(memory=True), lookup=lambda codes: codes.float(), decode=decode,
                            encode=lambda frames: Encoded(None, frames.flatten()[0]))
    given = torch.arange(float(count)).view(1, count, 1, 1, 1) if count else None
    for _ in rollout(codec, (torch.full((1, 1, 1), t) for t in range(length)), given, **options): pass
    return log


def test_published_drums_schedule():
    log = seen_by_frame(18, 15, memory=15, keep_first=8)
    assert log[14] == [14] and log[15] == [*range(14, -1, -1)]
    assert log[16] == [15, 14, 13, 12, 11, 10, 9, 7, 6, 5, 4, 3, 2, 1, 0]
    assert log[17] == [16, 15, 14, 13, 12, 11, 10, 7, 6, 5, 4, 3, 2, 1, 0]


def test_first_frame_of_nothing_sees_nothing():
    assert seen_by_frame(4, 0, memory=2) == [[], [0], [1, 0], [2, 1]]


def test_offsets_and_more_given_than_memory():
    assert seen_by_frame(7, 5, memory=3, offsets=(1, 3))[5:] == [[4, 2], [5, 3]]


def test_end_frame_is_one_more_context():
    assert seen_by_frame(4, 1, memory=2, end=torch.full((1, 1, 1, 1), 99.))[1:] == [[0, 99], [1, 0, 99], [2, 1, 99]]


@pytest.mark.parametrize('options', [dict(memory=2, offsets=(3,)), dict(memory=2, keep_first=2)])
def test_impossible_memory(options):
    with pytest.raises(ValueError, match='enlarge memory'): seen_by_frame(2, 0, **options)


def test_frames_come_one_by_one():
    torch.manual_seed(0)
    codec = build_frame_codec(PRESETS['tiny'])
    asked = []
    def endless():
        while True: asked.append(len(asked)); yield torch.randint(32, (1, 4, 4))
    frames = rollout(codec, endless(), memory=3)
    assert not asked and next(frames).shape == (1, 3, 32, 32) and asked == [0]
    assert not next(frames).requires_grad and asked == [0, 1]
