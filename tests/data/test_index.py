"The index: what is bad is listed, what is known is not read again, what was interrupted goes on."
import json
import os

import numpy as np
import pandas as pd
import pytest

from ccvs.data import index
from ccvs.data.guard import inspect_video
from ccvs.data.index import COLUMNS, build_index, find_videos, index_home, load_index, split_of, write_index
from ccvs.data.video import write_video


@pytest.fixture
def films(tmp_path):
    "Five good files in our layout, one bad one, and things that are no clips."
    for n in range(5):
        write_video(tmp_path / 'clips' / f'{n}.mp4', np.random.default_rng(n).integers(0, 255, (4 + n, 3, 16, 16), np.uint8))
    (tmp_path / 'clips' / 'bad.mp4').write_text('text')
    (tmp_path / 'motion').mkdir()
    (tmp_path / 'motion' / 'not_a_clip.mp4').touch()
    (tmp_path / 'clips' / '.hidden.mp4').touch()
    return tmp_path


@pytest.fixture
def reads(monkeypatch):
    "The same verdicts without child processes, and a list of what was read."
    seen = []
    def here(paths, workers, seconds):
        for path in paths:
            seen.append(path.name)
            yield inspect_video(str(path))
    monkeypatch.setattr(index, 'vet_many', here)
    return seen


def test_every_file_has_a_row_and_bad_ones_a_reason(films):
    table = build_index(films, source='noise', licence='CC0')                  # through the real guard
    assert tuple(table) == COLUMNS and table.path.tolist() == ['clips/0.mp4', 'clips/1.mp4', 'clips/2.mp4', 'clips/3.mp4',
                                                                'clips/4.mp4', 'clips/bad.mp4']
    assert table.status.tolist() == ['ok'] * 5 + ['bad'] and table.frames.tolist() == [4, 5, 6, 7, 8, 0]
    assert table.reason[5].startswith('clips/bad.mp4') and str(films) not in table.reason[5]
    assert set(table.source) == {'noise'} and set(table.licence) == {'CC0'}
    pd.testing.assert_frame_equal(table, load_index(films))
    assert not list(films.glob('*journal*')) and not list(films.glob('.part*'))


def test_how_frames_are_read_is_remembered(films, reads):
    assert set(build_index(films).through) == {0} and set(build_index(films, through=256).through) == {256}
    assert set(build_index(films).through) == {256} and len(reads) == 6        # nothing is read again for it
    pd.read_parquet(films / 'index.parquet').drop(columns='through').to_parquet(films / 'index.parquet')
    assert set(load_index(films).through) == {0}                               # an index older than the column


def test_only_new_and_changed_files_are_read(films, reads):
    build_index(films)
    reads.clear()
    assert len(build_index(films)) == 6 and reads == []
    os.utime(films / 'clips' / '1.mp4', ns=(1, 1))
    write_video(films / 'clips' / '9.mp4', np.zeros((3, 3, 16, 16), np.uint8))
    (films / 'clips' / '2.mp4').unlink()
    table = build_index(films)
    assert sorted(reads) == ['1.mp4', '9.mp4'] and 'clips/2.mp4' not in set(table.path)
    reads.clear()
    build_index(films, retry_bad=True)
    assert reads == ['bad.mp4']


def test_an_interrupted_build_loses_nothing(films, reads):
    build = index._vetted(films, find_videos(films), 1, 10)
    for _ in range(3): next(build)
    build.close()                                                              # killed here
    with open(films / 'index.journal', 'a') as journal: journal.write('{"path": "clips/3.m')
    before, = [list(reads)]
    reads.clear()
    table = build_index(films)
    assert len(before) == 3 and sorted(before + reads) == sorted(path.rpartition('/')[2] for path in table.path)
    assert (table.status == 'ok').sum() == 5


def test_splits_follow_content_names_or_the_caller(films, reads):
    table = build_index(films)
    good = table[table.status == 'ok']
    assert good.split.tolist() == [split_of(path, checksum) for path, checksum in zip(good.path, good.checksum)]
    assert set(build_index(films, split='test').split) == {'test'}
    assert set(build_index(films).split) == {'test'}, 'a split that was given stays'
    assert split_of('clips/Train/a.mp4', 'ffffffff') == 'train' and split_of('a/val/b.mp4', '00000000') == 'valid'
    shares = pd.Series([split_of('a.mp4', f'{n * 2654435761 % 2**32:08x}') for n in range(4000)]).value_counts(normalize=True)
    assert abs(shares['train'] - .9) < .02 and abs(shares['test'] - .05) < .02  # 4000 draws: s.d. 0.005


def test_a_folder_that_cannot_be_written_is_indexed_elsewhere(films, reads, monkeypatch, tmp_path):
    monkeypatch.setattr(index.os, 'access', lambda path, mode: False)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'elsewhere'))
    build_index(films)
    assert not (films / 'index.parquet').exists() and len(load_index(films)) == 6
    assert index_home(films).is_relative_to(tmp_path / 'elsewhere')


def test_errors_say_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match='no such folder'): build_index(tmp_path / 'absent')
    with pytest.raises(FileNotFoundError, match='holds no video'): build_index(tmp_path)
    with pytest.raises(FileNotFoundError, match='build_index'): load_index(tmp_path)
    (tmp_path / 'index.parquet').write_text('text')
    with pytest.raises(ValueError, match='delete it'): load_index(tmp_path)
    with pytest.raises(ValueError, match='unknown.*colour'): write_index(tmp_path, [dict(path='a', status='ok', frames=1, colour=2)])
    with pytest.raises(ValueError, match='twice'): write_index(tmp_path, [dict(path='a', status='ok', frames=1)] * 2)


def test_rows_written_by_a_renderer_are_complete(tmp_path):
    write_index(tmp_path, [dict(path='clips/b.mp4', status='ok', frames=3, split='train'), dict(path='clips/a.mp4', status='ok', frames=2)])
    table = load_index(tmp_path)
    assert table.path.tolist() == ['clips/a.mp4', 'clips/b.mp4'] and table.split.tolist() == ['', 'train']
    assert json.loads(table.to_json(orient='records'))[0]['height'] == 0
