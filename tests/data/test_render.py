"""Worlds on disk: an ordinary dataset, the same whoever renders it, continued after a break."""
import numpy as np
import pytest

from ccvs.data.clips import ClipDataset, load_side
from ccvs.data.index import COLUMNS, build_index, load_index
from ccvs.data.render import render_dataset
from ccvs.data.video import probe, read_sound, read_video
from ccvs.data.worlds import render


def test_clips_side_files_and_index(tmp_path):
    rows = render_dataset('dancer', tmp_path, 3, size=32, frames=6, seed=5, motion=True)
    assert list(rows.columns) == list(COLUMNS) and (rows.status == 'ok').all() and len(rows) == 3
    clip, path = render('dancer', 6, 6, 32), rows.path[1]
    frames = read_video(tmp_path / path).numpy().astype(float)
    assert np.abs(frames - clip.frames).mean() < 12                   # of 255; the video halves the colour resolution
    assert np.array_equal(load_side(tmp_path, path, 'keypoints'), clip.extras['keypoints'])
    motion = load_side(tmp_path, path, 'motion')
    assert motion.dtype == np.float16 and np.abs(motion - clip.motion_next).max() < 1 / 64
    assert load_index(tmp_path).equals(rows) and build_index(tmp_path).equals(rows)  # nothing to check again
    assert ClipDataset(tmp_path, length=6, size=32).window(0).shape == (6, 3, 32, 32)


def test_sound_goes_into_the_video(tmp_path):
    row = render_dataset('drummer', tmp_path, 1, size=32, frames=8).iloc[0]
    clip, info = render('drummer', 0, 8, 32), probe(tmp_path / row.path)
    sound, rate = read_sound(tmp_path / row.path)
    assert info.fps == clip.extras['fps'] and rate == clip.extras['sound_rate']
    n = min(sound.shape[-1], len(clip.extras['sound']))
    assert n >= .9 * len(clip.extras['sound'])
    assert np.corrcoef(np.asarray(sound)[0, :n], clip.extras['sound'][:n])[0, 1] > .8


def test_state_of_an_arm(tmp_path):
    path = render_dataset('pusher', tmp_path, 1, size=32, frames=4).path[0]
    arm = render('pusher', 0, 4, 32).extras
    assert np.array_equal(load_side(tmp_path, path, 'state'), np.column_stack([arm['arm'], arm['gripper']]))


def test_an_unfinished_dataset_is_continued(tmp_path):
    render_dataset('plant', tmp_path, 2, size=32, frames=4)
    first, second = (tmp_path / 'clips' / f'plant-00000{i}.mp4' for i in (0, 1))
    whole, stamp = second.read_bytes(), first.stat().st_mtime_ns
    second.write_bytes(whole[:len(whole) // 2])
    rows = render_dataset('plant', tmp_path, 3, size=32, frames=4)
    assert len(rows) == 3 and first.stat().st_mtime_ns == stamp and second.read_bytes() == whole


def test_processes_give_the_same_files(tmp_path):
    for workers, name in ((1, 'one'), (2, 'two')):
        render_dataset('plant', tmp_path / name, 6, size=32, frames=3, workers=workers)
    for path in sorted((tmp_path / 'one' / 'clips').iterdir()):
        assert path.read_bytes() == (tmp_path / 'two' / 'clips' / path.name).read_bytes()


@pytest.mark.parametrize('changes, words', [
    (dict(world='pony'), 'no world'), (dict(clips=0), 'at least 1 clip'), (dict(workers=0), 'workers'), (dict(frames=1), 'at least 2'),
    (dict(size=33), 'even'), (dict(seed=-1), 'seed')])
def test_wrong_arguments_write_nothing(tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        render_dataset(**{**dict(world='plant', out=tmp_path / 'x', clips=1, frames=2, size=32), **changes})
    assert not (tmp_path / 'x').exists()


def test_another_dataset_is_not_overwritten(tmp_path):
    render_dataset('plant', tmp_path / 'a', 1, size=32, frames=2)
    with pytest.raises(ValueError, match='holds'):
        render_dataset('plant', tmp_path / 'a', 1, size=64, frames=2)
    (tmp_path / 'b' / 'clips').mkdir(parents=True)
    (tmp_path / 'b' / 'clips' / 'mine.mp4').write_bytes(b'x')
    with pytest.raises(ValueError, match='unknown origin'):
        render_dataset('plant', tmp_path / 'b', 1, size=32, frames=2)
