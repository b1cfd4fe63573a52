"The forms of data_prep, from raw videos to a dataset that a training can open."
import numpy as np
import pytest

from ccvs.data.clips import ClipDataset
from ccvs.data.index import load_index
from ccvs.data.video import write_video
from ccvs.runs import RunError, fill_in, find_run, parameters, run_notebook, runs_folder

pytestmark = pytest.mark.usefixtures('one_thread')
FORMS = runs_folder().with_name('data_prep')


def run(name, out, **values):
    "Fill in a form and run it; the executed notebook lies in `out`."
    path = find_run(name, FORMS)
    return run_notebook(path, fill_in(parameters(path), [], values), out)


def test_a_world_becomes_a_dataset(tmp_path):
    run('worlds', tmp_path, world='acts', clips=3, size=32, frames=6, out_dir=str(tmp_path/'acts'))
    index = load_index(tmp_path/'acts')
    assert list(index.path) == [f'clips/acts-{1_000_000 + i}.mp4' for i in range(3)] and (index.status == 'ok').all()
    assert ClipDataset(tmp_path/'acts', length=6, size=32)[0].shape == (6, 3, 32, 32)


def test_own_videos_are_checked_and_the_rest_is_named(tmp_path):
    noise = np.random.default_rng(0)
    for split, frames in (('train', 9), ('test', 3)):
        write_video(tmp_path/'mine'/split/'a.mp4', noise.integers(0, 256, (frames, 3, 30, 44), dtype=np.uint8))
    (tmp_path/'mine'/'train'/'broken.mp4').write_text('no video')
    executed = run('own_videos', tmp_path/'out', folder=str(tmp_path/'mine'), size=32, length=8, source='own camera', licence='CC0-1.0')
    index = load_index(tmp_path/'mine').set_index('path')
    assert dict(index.split) == {'test/a.mp4': 'test', 'train/a.mp4': 'train', 'train/broken.mp4': ''}
    assert set(index.source) == {'own camera'} and index.status['train/broken.mp4'] == 'bad'
    page = executed.read_text(encoding='utf-8')
    assert 'train/broken.mp4' in page and 'test/a.mp4' in page    # set aside, and too short for a window


def test_a_folder_without_videos_is_one_sentence(tmp_path):
    (tmp_path/'mine').mkdir()
    with pytest.raises(RunError, match='holds no video'):
        run('own_videos', tmp_path/'out', folder=str(tmp_path/'mine'))
