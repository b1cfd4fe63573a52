"Windows and batches: the right frames, the same order on every run, nothing kept in memory that need not be."
import pickle
from hashlib import sha256
from itertools import islice

import numpy as np
import pytest
import torch

from ccvs.data.clips import cache
from ccvs.data.clips import ArrayClips, ClipDataset, batches, drawn, shard_layout
from ccvs.data.index import write_index
from ccvs.data.video import VideoError, write_video


def grey(film, frames):
    "Frame t of film n is evenly 40 + 5t + 2n bright: readable after lossy coding."
    values = 40 + 5 * np.arange(frames) + 2 * film
    return np.broadcast_to(values.astype(np.uint8)[:, None, None, None], (frames, 3, 16, 24)).copy()


def brightness(clip):
    return clip.float().mean((-3, -2, -1))


LENGTHS = (12, 20, 9, 3, 15, 12)
RECORDED = [(3, 3), (1, 0), (2, 3), (0, 3), (4, 5), (1, 0)]   # (clip, start) of a stream; see below


@pytest.fixture
def films(tmp_path):
    "Six films, one of 3 frames, with side files and an index as a renderer writes it."
    (tmp_path / 'state').mkdir()
    rows = []
    for n, frames in enumerate(LENGTHS):
        write_video(tmp_path / 'clips' / f'{n}.mp4', grey(n, frames), crf=8)
        np.save(tmp_path / 'state' / f'{n}.npy', np.stack([np.arange(frames), np.full(frames, n)], 1))
        rows.append(dict(path=f'clips/{n}.mp4', frames=frames, status='ok', split='test' if n == 5 else 'train', checksum=str(n)))
    rows.append(dict(path='clips/bad.mp4', frames=0, status='bad', reason='no video', split='train'))
    write_index(tmp_path, rows)
    return tmp_path


def fingerprint(stream, count=8):
    "Everything in the first batches, as one word."
    digest = sha256()
    for batch in islice(stream, count):
        for name in sorted(batch): digest.update(name.encode() + batch[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def test_frames_that_pass_another_size_are_smooth(tmp_path):
    "What CCVS did to Kinetics (spec 9.3): 1/16, 7/8, 1/16 over each axis, borders repeated; other clips are left alone."
    frames = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8), np.uint8).repeat(2, 2).repeat(2, 3)
    for name in 'ab': write_video(tmp_path / f'{name}.mp4', frames, crf=1)
    rows = [dict(path=f'{name}.mp4', frames=4, status='ok', split='train', checksum=name, through=through) for name, through in (('a', 0), ('b', 64))]
    write_index(tmp_path, rows)
    plain, smooth = (ClipDataset(tmp_path, length=4, size=16).window(n).double().numpy() for n in (0, 1))
    wide = np.pad(plain, ((0, 0), (0, 0), (1, 1), (1, 1)), 'edge')
    across = wide[..., :-2] / 16 + wide[..., 1:-1] * 7 / 8 + wide[..., 2:] / 16
    want = across[..., :-2, :] / 16 + across[..., 1:-1, :] * 7 / 8 + across[..., 2:, :] / 16
    assert abs(smooth - want).max() <= .5 and abs(plain - want).max() > 10     # rounded to whole bytes


def test_windows_hold_the_right_frames(films):
    data = ClipDataset(films, length=4, step=2, size=16)
    assert data.rows.path.tolist() == [f'clips/{n}.mp4' for n in (0, 1, 2, 4, 5)]
    assert data.skipped.path.tolist() == ['clips/3.mp4']
    for place, film in enumerate((0, 1, 2, 4, 5)):
        assert data.windows(place) == LENGTHS[film] - 6
        for start in (0, data.windows(place) - 1):
            clip = data.window(place, start)
            assert clip.shape == (4, 3, 16, 16) and clip.dtype == torch.uint8
            wanted = 40 + 5 * torch.arange(start, start + 8, 2)[:4].float() + 2 * film
            torch.testing.assert_close(brightness(clip), wanted, rtol=0, atol=1.5)         # 8-bit colour conversion, crf 8


def test_splits_rows_and_folds_choose_clips(films):
    assert ClipDataset(films, 4, size=16, split='test').rows.path.tolist() == ['clips/5.mp4']
    every = ClipDataset(films, 4, size=16)
    parts = [ClipDataset(films, 4, size=16, fold=(k, 2)).rows.path.tolist() for k in range(2)]
    assert sorted(sum(parts, [])) == every.rows.path.tolist() and all(parts)
    assert ClipDataset(films, 4, size=16, rows=every.rows[1:3]).rows.path.tolist() == every.rows.path.tolist()[1:3]
    with pytest.raises(ValueError, match='100 frames'): ClipDataset(films, 100, size=16)
    with pytest.raises(ValueError, match="'nowhere'"): ClipDataset(films, 4, size=16, split='nowhere')


def test_side_files_are_cut_like_the_frames(films):
    data = ClipDataset(films, length=4, step=2, size=16)
    assert data.side(1, 'state').shape == (20, 2)
    assert data.side(1, 'state', start=3).tolist() == [[3, 1], [5, 1], [7, 1], [9, 1]]
    with pytest.raises(FileNotFoundError, match='no motion'): data.side(1, 'motion')
    batch = next(batches(data, 3, seed=0, sides=('state',)))
    for state, clip in zip(batch['state'], batch['clip']):
        torch.testing.assert_close(brightness(clip), 40 + 5. * state[:, 0] + 2 * state[:, 1], rtol=0, atol=1.5)  # as above


@pytest.mark.parametrize('workers', [1, 2])
def test_any_number_of_workers_gives_the_same_batches(films, workers):
    data = ClipDataset(films, length=4, size=16)
    want = fingerprint(batches(data, 3, seed=7))
    before = torch.random.get_rng_state()
    assert fingerprint(batches(data, 3, seed=7, workers=workers)) == want
    assert torch.equal(torch.random.get_rng_state(), before), 'the global random stream must not move'


def test_the_order_is_fixed_for_ever(films):
    "Recorded once: a change here would break every run that is resumed."
    clips = ArrayClips(np.zeros((5, 9, 3, 2, 2), np.uint8), length=4)
    assert [drawn(clips, place, seed=0) for place in range(6)] == RECORDED


def test_a_resumed_run_sees_the_same_batches(films):
    data = ClipDataset(films, length=4, size=16)
    stream = batches(data, 3, seed=1)
    for _ in range(5): next(stream)
    for workers in (0, 2): assert fingerprint(batches(data, 3, seed=1, start_step=5, workers=workers), 3) == \
        fingerprint(islice(batches(data, 3, seed=1), 5, None), 3)
    assert fingerprint(stream, 3) == fingerprint(batches(data, 3, seed=1, start_step=5), 3)
    assert fingerprint(batches(data, 3, seed=2)) != fingerprint(batches(data, 3, seed=1))


def test_an_epoch_shows_every_clip_once_and_starts_vary():
    clips = ArrayClips(np.zeros((7, 30, 3, 2, 2), np.uint8), length=4)
    picks = [drawn(clips, place, seed=3) for place in range(7 * 40)]
    for epoch in range(40): assert sorted(i for i, _ in picks[7 * epoch:7 * epoch + 7]) == list(range(7))
    starts = [start for _, start in picks]
    assert min(starts) == 0 and max(starts) == 26 and len({tuple(picks[e * 7:e * 7 + 7]) for e in range(40)}) == 40


def test_array_clips_and_folder_clips_agree(films):
    folder = ClipDataset(films, length=4, step=2, size=16, split='test')
    array = ArrayClips(folder.cache.clip(0)[None].copy(), length=4, step=2)
    assert fingerprint(batches(folder, 2, seed=0)) == fingerprint(batches(array, 2, seed=0))
    with pytest.raises(ValueError, match='uint8'): ArrayClips(np.zeros((1, 4, 3, 2, 2)))
    with pytest.raises(ValueError, match='spans 9'): ArrayClips(np.zeros((1, 4, 3, 2, 2), np.uint8), length=9)
    with pytest.raises(ValueError, match='batch_size'): batches(array, 0, seed=0)


def test_the_cache_is_built_once_and_goes_on_after_a_kill(films, monkeypatch):
    monkeypatch.setattr(cache, 'shard_layout', lambda frames, most: shard_layout(frames, 20))  # several shards
    data = ClipDataset(films, length=4, size=16)
    shards = sorted(data.cache.home.glob('*.npy'))
    assert len(shards) > 2 and sum(len(np.load(path)) for path in shards) == data.rows.frames.sum()
    read = []
    real = cache.read_blocks
    monkeypatch.setattr(cache, 'read_blocks', lambda path, **names: read.append(path.name) or real(path, **names))
    want = fingerprint(batches(data, 3, seed=0))
    assert fingerprint(batches(ClipDataset(films, length=4, size=16), 3, seed=0)) == want and read == []
    shards[1].unlink()                                                          # as if killed before this one
    again = ClipDataset(films, length=4, size=16)
    assert fingerprint(batches(again, 3, seed=0)) == want and 0 < len(read) < len(again)


def test_another_size_or_another_file_is_another_cache(films):
    one = ClipDataset(films, length=4, size=16).cache.home
    assert ClipDataset(films, length=4, size=(8, 16)).cache.home != one
    assert ClipDataset(films, length=3, size=16, split='train').cache.home != one
    assert ClipDataset(films, length=5, step=1, size=16).cache.home == one      # the same clips, other windows


def test_frames_are_mapped_not_loaded_nor_pickled(films):
    data = ClipDataset(films, length=4, size=16)
    data.window(0)
    assert isinstance(data.cache.clip(0), np.memmap) and not data.cache.clip(0).flags.writeable
    assert len(pickle.dumps(data)) < 20_000
    assert torch.equal(pickle.loads(pickle.dumps(data)).window(0), data.window(0))


def test_a_file_that_changed_since_the_index_is_named(films):
    (films / 'clips' / '1.mp4').write_text('overwritten')
    with pytest.raises(VideoError, match='1.mp4.*build_index'): ClipDataset(films, length=4, size=16)


def test_a_long_clip_has_a_shard_of_its_own():
    assert shard_layout([5, 500, 5, 5], 10).tolist() == [[0, 0], [1, 0], [2, 0], [2, 5]]
    assert shard_layout([], 10).shape == (0, 2)


def test_a_users_folder_works_as_it_is(tmp_path):
    for n in range(2): write_video(tmp_path / 'my films' / f'{n} ä.mp4', grey(n, 8))
    data = ClipDataset(tmp_path, length=8, size=16)
    assert len(data) == 2 and next(batches(data, 2, seed=0))['clip'].shape == (2, 8, 3, 16, 16)
