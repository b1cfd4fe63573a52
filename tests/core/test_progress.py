"Progress: the items pass unchanged, a log gets few lines, a watcher gets a bar."
import io

import pytest

from ccvs.core import progress as module
from ccvs.core.progress import progress, progress_line, someone_watches


class Terminal(io.StringIO):
    def isatty(self): return True


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, 'monotonic', lambda: now[0])
    return now


def slow(n, clock, step=1.0):
    for i in range(n):
        clock[0] += step
        yield i


def test_short_job_says_one_line(capsys):
    assert list(progress([3, 1, 2], desc='sort')) == [3, 1, 2]
    out, err = capsys.readouterr()
    assert out == '' and err.count('\n') == 1 and err.startswith('sort: 3/3 it (100 %)') and '\r' not in err


def test_long_job_says_few_lines(capsys, clock):
    list(progress(slow(3600, clock), total=3600, unit='clip'))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == '5/3600 clip (0 %), 1.0 clip/s, 59 min 55 s left'
    assert 40 < len(lines) < 90 and lines[-1] == '3600/3600 clip (100 %), 1.0 clip/s, 60 min 0 s in all'
    assert len(set(lines)) == len(lines)


def test_the_last_line_is_not_said_twice(capsys, clock):
    list(progress(slow(5, clock), total=5))
    assert capsys.readouterr().err.splitlines() == ['5/5 it (100 %), 1.0 it/s, 5.0 s in all']


def test_leaving_early_says_how_far(capsys):
    for i in progress(range(10), desc='look'):
        if i == 4: break
    assert capsys.readouterr().err.startswith('look: 4/10 it (40 %)')


def test_unknown_length_and_nothing(capsys):
    assert list(progress(iter('ab'), unit='letter')) == ['a', 'b'] and list(progress([])) == []
    assert capsys.readouterr().err.splitlines()[0].startswith('2 letter, ')


def test_errors_pass_through(capsys):
    def broken():
        yield 1
        raise OSError('disk')
    with pytest.raises(OSError, match='disk'): list(progress(broken()))
    assert '1 it' in capsys.readouterr().err


def test_a_watcher_gets_a_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr('sys.stderr', terminal)
    assert someone_watches() and list(progress(range(5), desc='draw')) == list(range(5))
    assert '\r' in terminal.getvalue() and 'draw' in terminal.getvalue()


def test_a_pipe_is_not_watched(monkeypatch):
    monkeypatch.setattr('sys.stderr', io.StringIO())
    assert not someone_watches()


@pytest.mark.parametrize('arguments, expected', [
    ((0, 10, 0.0), '0/10 it (0 %), 0.0 it/s, time left unknown'),
    ((3, 400, 9.0, 'render', 'clip'), 'render: 3/400 clip (0 %), 3.0 s/clip, 19 min 51 s left'),
    ((1, 3, 9000.0), '1/3 it (33 %), 9000.0 s/it, 5 h 0 min left'),
    ((0, 0, 0.0), '0/0 it, 0.0 it/s, 0.0 s in all'),
])
def test_lines(arguments, expected):
    assert progress_line(*arguments) == expected
