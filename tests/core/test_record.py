"Records: complete, anonymous, and never half written."
import getpass
import json
import os
import platform
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
import torch

from ccvs.core import record as module
from ccvs.core.record import atomic_path, load_record, new_record, save_record


def test_what_a_record_holds():
    record = new_record('tiny', dict(steps=2, lr=np.float64(0.5), folder=Path('a/b')), seed=np.int64(3))
    assert record['preset'] == 'tiny' and record['overrides'] == dict(steps=2, lr=0.5, folder='a/b') and record['seed'] == 3
    assert set(record['versions']) == {'python', 'torch', 'numpy', 'ccvs'}
    assert {'commit', 'dirty', 'machine', 'time', 'numbers'} <= set(record)
    age = datetime.now(timezone.utc) - datetime.fromisoformat(record['time'])
    assert timedelta(0) - timedelta(seconds=1) <= age < timedelta(seconds=60)


def test_a_record_names_nobody():
    text = json.dumps(new_record('tiny', {}, 0))
    assert str(Path.home()) not in text and os.getcwd() not in text
    values = [v for v in json.loads(text)['machine'].values() if isinstance(v, str)]
    assert platform.node() not in values and getpass.getuser() not in values


def test_round_trip_with_arrays(tmp_path):
    record = new_record('tiny', {}, 0) | dict(numbers=dict(a=np.float32(0.5), b=torch.ones(2), c=np.arange(2)))
    path = save_record(tmp_path/'run', record)
    assert path.name == 'record.json' and load_record(tmp_path/'run')['numbers'] == dict(a=0.5, b=[1.0, 1.0], c=[0, 1])
    with pytest.raises(TypeError, match='set'): save_record(tmp_path/'run', dict(a={1}))
    assert load_record(tmp_path/'run')['preset'] == 'tiny'


def test_errors_of_load(tmp_path):
    with pytest.raises(FileNotFoundError, match='record.json'): load_record(tmp_path)
    (tmp_path/'record.json').write_text('{"a": ')
    with pytest.raises(ValueError, match='not valid JSON'): load_record(tmp_path)


def test_commit_is_the_suites_own(monkeypatch):
    monkeypatch.setattr(module, '_git', lambda *words: None)
    assert new_record('tiny', {}, 0)['commit'] is None and new_record('tiny', {}, 0)['dirty'] is None
    answers = {'ls-files': '__init__.py', 'status': ' M a.py', 'rev-parse': 'f' * 40}
    monkeypatch.setattr(module, '_git', lambda *words: answers[words[0]])
    assert new_record('tiny', {}, 0)['commit'] == 'f' * 40 and new_record('tiny', {}, 0)['dirty'] is True


def test_without_git(monkeypatch):
    monkeypatch.setenv('PATH', '')
    assert new_record('tiny', {}, 0)['commit'] is None


def test_atomic_path_replaces_and_tidies(tmp_path):
    target = tmp_path/'new'/'file.pt'
    for text in ('one', 'two'):
        with atomic_path(target) as part:
            assert part.parent == target.parent and part.suffix == '.pt' and part != target
            part.write_text(text)
            assert not target.exists() or target.read_text() == 'one'
    assert target.read_text() == 'two' and os.listdir(target.parent) == ['file.pt']


@pytest.mark.parametrize('error', [RuntimeError, KeyboardInterrupt])
def test_atomic_path_after_a_failure(tmp_path, error):
    target = tmp_path/'file.txt'
    target.write_text('old')
    with pytest.raises(error):
        with atomic_path(target) as part:
            part.write_text('half')
            raise error
    assert target.read_text() == 'old' and os.listdir(tmp_path) == ['file.txt']


def test_atomic_path_with_nothing_written(tmp_path):
    with pytest.raises(FileNotFoundError, match='was not written'):
        with atomic_path(tmp_path/'file.txt'): pass
    assert os.listdir(tmp_path) == []


def test_flushed_before_and_after_the_rename(tmp_path, monkeypatch):
    events = []
    flush, replace = module._flush, os.replace
    monkeypatch.setattr(module, '_flush', lambda p: (events.append('file' if p.is_file() else 'folder'), flush(p)))
    monkeypatch.setattr(module.os, 'replace', lambda a, b: (events.append('rename'), replace(a, b)))
    with atomic_path(tmp_path/'a') as part: part.write_text('x')
    assert events == ['file', 'rename', 'folder']
