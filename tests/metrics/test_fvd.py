"One call: sources, cutting, codec, overlap of decoding and features, warnings, the record, and what damage does to the value."
import threading
import time
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ccvs.core.config import override
from ccvs.core.seed import torch_rng
from ccvs.data.damage import DAMAGES, LEVELS
from ccvs.data.video import VideoError, write_video
from ccvs.data.worlds import render
from ccvs.metrics.frechet.detector import Detector
from ccvs.metrics.frechet.distance import centred_interval, extrapolated, frechet_distance, kernel_distance, resampled_distances
from ccvs.metrics.frechet.fvd import clip_stream, count_warning, fvd, fvd_of_features, prefetched, round_trip, stream_features, video_files
from ccvs.metrics.frechet.protocol import PROTOCOLS, ProtocolCfg

SMALL = ProtocolCfg(frames=16, n_real=24, n_fake=24, detector='toy')


def textures(clips):
    "Brightness, edges, change and change of change in a 4 x 4 grid; (B, T, 3, H, W) -> (B, 64)."
    x = clips.double().mean(2) / 255
    maps = x, x.diff(dim=3).abs(), x.diff(dim=1).abs(), x.diff(n=2, dim=1).abs()
    return torch.cat([F.adaptive_avg_pool2d(y.mean(1), 4).flatten(1) for y in maps], 1).float()


TOY = Detector('textures', 'none', textures, 3)


@pytest.fixture(scope='module')
def clips():
    return torch.stack([torch.from_numpy(render('pusher', seed, 16, 32).frames) for seed in range(24)])


@pytest.fixture(scope='module')
def others():
    return torch.stack([torch.from_numpy(render('pusher', seed, 16, 32).frames) for seed in range(100, 124)])


@pytest.mark.parametrize('kind', DAMAGES)
def test_grows_with_every_level_of_damage(kind, clips):
    base = stream_features(clips, SMALL, TOY)
    def seen(level):
        random = torch_rng(0, kind)
        return frechet_distance(base, stream_features((DAMAGES[kind](clip, level, random) for clip in clips), SMALL, TOY, 'fake'))
    values = [0.] + [seen(level) for level in range(LEVELS)]
    assert LEVELS == 8 and np.all(np.diff(values) > 0), values


def test_speed_both_ways(clips):
    "Faster motion, not only slower: a sixteen frame clip of a longer video at eight speeds."
    long = [torch.from_numpy(render('pusher', seed, 46, 32).frames) for seed in range(16)]
    cfg = override(SMALL, n_real=16, n_fake=16)
    base = stream_features(long, cfg, TOY)
    at = lambda speed: stream_features((clip[(torch.arange(16) * speed).long()] for clip in long), cfg, TOY, 'fake')
    values = [frechet_distance(base, at(1 + level / 4)) for level in range(9)]
    assert np.all(np.diff(values) > 0), values


def test_the_record_holds_what_was_measured(clips, others):
    found = fvd(clips, others, SMALL, TOY)
    a, b = textures(clips), textures(others)
    assert found.value == frechet_distance(a, b) and found.kernel == kernel_distance(a, b)
    ends = extrapolated(a, b, 0)
    assert (found.infinity, found.doubt) == (ends.value, ends.doubt)
    assert (found.low, found.high) == centred_interval(found.value, resampled_distances(a, b, 0))
    assert (found.detector, found.checksum, found.eps, found.resize) == ('textures', 'none', None, None)
    assert (found.n_real, found.n_fake, found.groups, found.frames, found.stride, found.codec, found.protocol) == (24, 24, 1, 16, 1, 'none, none', 'custom')


@pytest.mark.parametrize('batch', [1, 7, 64])
def test_any_batch_and_any_source_give_one_value(batch, clips, others, tmp_path):
    value = fvd(clips, others, SMALL, TOY, resamples=0)
    assert fvd(list(clips), iter(others.split(5)), SMALL, TOY, batch=batch, resamples=0) == value
    assert fvd(clips.numpy(), (clip.numpy() for clip in others), SMALL, TOY, batch=batch, resamples=0) == value


def test_the_protocols_own_detector(clips, others, monkeypatch):
    from ccvs.metrics.frechet import fvd as module
    asked = []
    monkeypatch.setattr(module, 'protocol_detector', lambda *how: asked.append(how) or TOY)
    row = override(PROTOCOLS['cd_fvd'], side=None)
    with pytest.warns(UserWarning): found = fvd(clips, others, row, weights='here.pt', sha256='ab', device='cpu', resamples=0)
    assert asked == [(row, 'here.pt', 'ab', 'cpu')]
    assert (found.eps, found.resize, found.value_range, found.channel_order, found.seed) == (1e-5, 'half_pixel', (-1., 1.), 'rgb', 42)


def test_folders(clips, others, tmp_path):
    for name, side in (('real', clips), ('fake', others)):
        for i, clip in enumerate(side[:10]): write_video(tmp_path/name/f'vid_{i:05d}.mp4', clip, crf=0)
    cfg = override(SMALL, n_real=10, n_fake=10)
    found = fvd(tmp_path/'real', str(tmp_path/'fake'), cfg, TOY, resamples=0)
    assert found.codec == 'video files, video files' and found.n_real == found.n_fake == 10
    assert found.value == pytest.approx(fvd(clips[:10], others[:10], cfg, TOY, resamples=0).value, rel=.1)     # chroma is halved even by a lossless file
    assert [path.name for path in video_files(tmp_path/'real')] == [f'vid_{i:05d}.mp4' for i in range(10)]
    with pytest.raises(FileNotFoundError, match='found none'): video_files(tmp_path/'nowhere')
    (tmp_path/'fake'/'vid_00003.mp4').write_bytes(b'not a video')
    with pytest.raises(VideoError, match='vid_00003'): fvd(tmp_path/'real', tmp_path/'fake', cfg, TOY, resamples=0)


def test_round_trip(clips, others):
    grain = (clips[0].float() + 12 * torch.randn(clips[0].shape, generator=torch_rng(0))).clamp(0, 255).byte()
    loss = [(round_trip(grain, crf).float() - grain.float()).abs().mean() for crf in (10, 23, 40)]
    assert 0 < loss[0] < loss[1] < loss[2]
    odd = clips[0][:, :, :31, :29]
    assert round_trip(odd, 10).shape == odd.shape
    coded = override(SMALL, crf=40)
    assert torch.equal(next(clip_stream(clips, coded)), round_trip(clips[0], 40))
    few = override(coded, n_real=4, n_fake=4)
    found = fvd(clips, others, few, TOY, resamples=0)
    assert found.codec == 'H.264 crf 40, H.264 crf 40' and found.value != fvd(clips, others, override(few, crf=None), TOY, resamples=0).value


def test_cutting(clips):
    first = lambda **changes: next(clip_stream(clips, override(SMALL, **changes)))
    assert torch.equal(first(frames=5), clips[0, :5])
    assert torch.equal(first(frames=5, stride=3), clips[0, 0:13:3])
    assert torch.equal(first(frames=5, given=2), clips[0, :5]) and torch.equal(first(frames=5, given=2, given_counted=False), clips[0, 2:5])
    assert first(side=16).shape == (16, 3, 16, 16)
    assert len(list(clip_stream(clips, override(SMALL, n_fake=9), 'fake'))) == 9
    with pytest.raises(ValueError, match='needs 31'): first(frames=16, stride=2)


def test_random_starts(clips):
    cfg = override(SMALL, frames=4, random_start=(True, False))
    starts = lambda cfg, side: [next(t for t in range(13) if torch.equal(clip, whole[t:t + 4])) for clip, whole in zip(clip_stream(clips, cfg, side), clips)]
    assert starts(cfg, 'fake') == [0] * 24
    assert starts(cfg, 'real') == starts(cfg, 'real') != starts(override(cfg, seed=1), 'real')
    assert len(set(starts(cfg, 'real'))) > 5


def test_decoding_overlaps_with_features(clips):
    "Fetching a clip takes 10 ms and so does its feature; together they take little more than one of them."
    clock = []
    def fetched():
        for clip in clips:
            start = time.perf_counter()
            time.sleep(.01)
            clock.append(('decode', start, time.perf_counter(), threading.get_ident()))
            yield clip
    def slowly(batch):
        start = time.perf_counter()
        time.sleep(.01 * len(batch))
        clock.append(('features', start, time.perf_counter(), threading.get_ident()))
        return textures(batch)
    stream_features(fetched(), SMALL, TOY._replace(features=slowly), batch=4)
    decode, features = ([(a, b) for what, a, b, _ in clock if what == kind] for kind in ('decode', 'features'))
    inside = sum(any(a < end and start < b for a, b in features) for start, end in decode)
    assert inside >= 12, inside                                   # of 24; all but the first batches are decoded meanwhile
    assert len({thread for *_, thread in clock}) == 2


def test_prefetching_hands_on_what_is_raised_and_stops():
    assert list(prefetched(range(7), 3)) == list(range(7)) and list(prefetched([])) == []
    def broken():
        yield 1
        raise VideoError('bad.mp4: cut short')
    stream = prefetched(broken())
    assert next(stream) == 1
    with pytest.raises(VideoError, match='cut short'): next(stream)
    drawn, threads = [], threading.active_count()
    stream = prefetched((drawn.append(i) or i for i in range(1000)), 2)
    next(stream)
    stream.close()
    assert len(drawn) <= 4 and threading.active_count() == threads  # nothing goes on behind a caller who left


def test_memory_holds_a_few_batches(clips):
    "At most three batches are decoded and not yet used."
    drawn, used, most = 0, 0, 0
    def fetched():
        nonlocal drawn
        for clip in clips:
            drawn += 1
            yield clip
    def counting(batch):
        nonlocal used, most
        time.sleep(.005)
        most = max(most, drawn - used)
        used += len(batch)
        return textures(batch)
    stream_features(fetched(), SMALL, TOY._replace(features=counting), batch=2)
    assert used == 24 and most <= 8


def test_groups_and_multiples(clips, others):
    real, fake = textures(clips), textures(others)
    cfg = override(SMALL, group=10)
    found = fvd_of_features(real, fake, cfg, TOY)
    parts = [frechet_distance(real[i:i + 10], fake[i:i + 10]) for i in (0, 10)]
    assert (found.value, found.spread, found.groups, found.n_real, found.n_fake) == (np.mean(parts), np.std(parts), 2, 20, 20)
    assert found.low < found.value < found.high
    assert fvd_of_features(real, fake, override(SMALL, group=100), TOY).groups == 1
    assert len(stream_features(clips[:23], override(SMALL, n_real=None, multiple=10), TOY)) == 20
    assert len(stream_features(clips, override(SMALL, n_real=15, multiple=10), TOY)) == 10


def test_counts_are_warned_about(clips, others):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        fvd(clips, others, SMALL, TOY, resamples=0)
    with pytest.warns(UserWarning, match='24 real clips are compared with 20'): fvd(clips, others[:20], SMALL, TOY, resamples=0)
    with pytest.warns(UserWarning, match='20 clips on each side'): fvd(clips[:20], others[:20], SMALL, TOY, resamples=0)
    assert count_warning(256, 25600, PROTOCOLS['magvit_bair']) is None      # unequal as published
    assert count_warning(96, 96, PROTOCOLS['ccvs_drums']) is None           # 100 less the rest of a batch
    assert count_warning(2048, 2048, PROTOCOLS['cd_fvd']) is None
    assert 'all and 2048' in count_warning(5000, 2048, PROTOCOLS['cd_fvd'])


def test_what_it_refuses(clips):
    sizes = [torch.zeros(16, 3, side, 32, dtype=torch.uint8) for side in (32, 16)]
    for wrong, why in (((clips / 255), 'bytes'), (clips[:, :, :1], 'found'), (clips[:0], 'no clips'), (sizes, 'one size')):
        with pytest.raises(ValueError, match=why): stream_features(wrong, SMALL, TOY)


def test_very_few_clips_have_no_extrapolation(clips, others):
    with pytest.warns(UserWarning): found = fvd(clips[:7], others[:7], SMALL, TOY, resamples=0)
    assert (found.infinity, found.doubt, found.low, found.high) == (None, None, None, None) and found.value > 0
