"The program as a person or a script meets it: exit statuses, one sentence for each mistake, JSON and nothing else."
import json
import os
import subprocess
import sys
import time

import nbformat
import pytest
from typer.testing import CliRunner

from ccvs import cli, runs

FORM = "preset = 'tiny'  # preset\nsteps = 2\nseed = 0\nclips = None\nout_dir = 'out/toy'"
BODY = """import json, pathlib
print('working')
if clips: pathlib.Path(clips).stat()
if steps == 0: raise ValueError('steps must be positive')
pathlib.Path(out_dir, 'record.json').write_text(json.dumps(dict(preset=preset, steps=steps, seed=seed, clips=clips)))"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    "A papermill_runs folder whose notebooks only write down what they were given."
    folder = tmp_path / 'papermill_runs'
    folder.mkdir()
    kernel = dict(kernelspec=dict(name='python3', display_name='python3', language='python'))
    cells = [nbformat.v4.new_code_cell(FORM, metadata=dict(tags=['parameters'])), nbformat.v4.new_code_cell(BODY)]
    for name in ('train_codec', 'demo'):
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / f'{name}.ipynb')
    monkeypatch.setattr(runs, 'runs_folder', lambda: folder)
    return folder


def ask(*words):
    return CliRunner().invoke(cli.app, words)


def program(*words, **more):
    return subprocess.run([sys.executable, '-c', 'from ccvs.cli import main; main()', *words], capture_output=True, text=True, **more)


def test_help_comes_at_once_and_names_every_command():
    start = time.monotonic()
    page = program('--help')
    assert page.returncode == 0
    assert time.monotonic() - start < 3  # 0.3 s when idle; importing torch alone would take as long on a busy machine
    assert all(word in page.stdout for word in ('doctor', 'worlds', 'prepare', 'train', 'synthesize', 'evaluate', 'demo', 'bench'))


def test_help_imports_nothing_heavy():
    code = 'import sys, ccvs.cli; print(sorted({"torch", "numpy", "pandas", "papermill", "av"} & set(sys.modules)))'
    assert subprocess.check_output([sys.executable, '-c', code], text=True).strip() == '[]'


@pytest.mark.parametrize('words', [('fly',), ('train',), ('worlds', 'render', 'pusher'), ('prepare',), ('doctor', '--loud'),
                                   ('worlds', 'render', 'pusher', '--out', 'x', '--size', '9')])
def test_what_is_not_understood_ends_with_2(words):
    assert ask(*words).exit_code == 2


def test_a_mistake_is_one_sentence_on_stderr_and_status_1():
    done = program('demo', '--clips', 'no-such-folder')
    assert (done.returncode, done.stdout) == (1, '')
    assert done.stderr == 'error: --clips wants a folder of videos, no-such-folder is none\n'


def test_debug_shows_where_it_happened():
    done = program('demo', '--clips', 'no-such-folder', env=os.environ | dict(CCVS_DEBUG='1'))
    assert done.returncode == 1 and 'Traceback' in done.stderr


def test_show_lists_the_parameters_and_runs_nothing(checkout):
    done = ask('train', 'codec', '--show')
    assert done.exit_code == 0 and 'steps' in done.stdout and not (checkout / 'out').exists()


def test_a_run_gets_its_values_and_leaves_its_record(checkout):
    done = ask('train', 'codec', '--preset', 'bair', '--set', 'steps=7', '--json')
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == dict(preset='bair', steps=7, seed=0, clips=None)
    assert (checkout / 'out' / 'toy' / 'train_codec.ipynb').is_file()


def test_paths_are_seen_from_where_one_stands(checkout, tmp_path, monkeypatch):
    (tmp_path / 'videos').mkdir()
    monkeypatch.chdir(tmp_path)
    done = ask('demo', '--clips', 'videos', '--out', 'here')
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / 'here' / 'record.json').read_text())['clips'] == str(tmp_path / 'videos')


@pytest.mark.parametrize('change, sentence', [('stepps=3', 'did you mean steps'), ('steps=many', 'takes int'), ('steps', 'NAME=VALUE')])
def test_a_wrong_parameter_is_an_error_before_anything_runs(checkout, change, sentence):
    done = ask('train', 'codec', '--set', change)
    assert done.exit_code == 1 and isinstance(done.exception, runs.RunError) and sentence in str(done.exception)
    assert not (checkout / 'out').exists()


def test_a_failing_notebook_is_told_in_one_sentence_and_kept(checkout):
    done = ask('train', 'codec', '--set', 'steps=0')
    assert done.exit_code == 1 and 'ValueError: steps must be positive' in str(done.exception)
    assert (checkout / 'out' / 'toy' / 'train_codec.ipynb').is_file()


def test_a_path_looked_for_in_the_wrong_place_gets_a_hint(checkout, tmp_path, monkeypatch):
    (tmp_path / 'videos' / 'mine').mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    done = ask('train', 'codec', '--set', 'clips=videos/mine')
    assert done.exit_code == 1 and 'begin with ./, such as clips=./videos/mine' in str(done.exception)
    assert ask('train', 'codec', '--set', 'clips=./videos/mine').exit_code == 0


def test_a_run_that_wrote_a_report_ends_with_its_place(checkout):
    (checkout / 'out' / 'toy').mkdir(parents=True)
    (checkout / 'out' / 'toy' / 'report.html').write_text('a report')
    for words in (('train', 'codec'), ('demo',)):
        last = ask(*words).stdout.splitlines()[-1]
        assert last == f'Open {checkout / "out" / "toy" / "report.html"} in a browser.'


def test_a_run_says_at_once_that_it_starts(checkout):
    assert ask('train', 'codec').stdout.startswith('papermill_runs/train_codec.ipynb is starting\n')


def test_a_run_without_a_checkout_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(runs.ccvs, '__file__', str(tmp_path / 'site-packages' / 'ccvs' / '__init__.py'))
    with pytest.raises(runs.RunError, match='clone the repository'):
        runs.runs_folder()


def test_prepare_sets_a_broken_file_aside_and_says_why(tmp_path):
    import torch
    from ccvs.data.video import write_video
    write_video(tmp_path / 'good.mp4', torch.zeros(6, 3, 32, 32, dtype=torch.uint8))
    (tmp_path / 'bad.mp4').write_text('this is no video')
    done = program('prepare', str(tmp_path), '--json')
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer['usable'] == 1 and list(answer['set_aside']) == ['bad.mp4'] and answer['set_aside']['bad.mp4']


def test_prepare_names_a_broken_file_once_and_the_index(tmp_path):
    import torch
    from ccvs.data.video import write_video
    write_video(tmp_path / 'good.mp4', torch.zeros(6, 3, 32, 32, dtype=torch.uint8))
    (tmp_path / 'bad.mp4').write_text('this is no video')
    done = program('prepare', str(tmp_path))
    broken, whole = done.stdout.splitlines()
    assert broken.startswith('set aside: bad.mp4: ') and broken.count('bad.mp4') == 1
    assert whole.startswith('1 of 2 videos') and whole.endswith(str(tmp_path / 'index.parquet'))


def test_prepare_of_a_file_says_so(tmp_path):
    (tmp_path / 'text.mp4').write_text('this is no video')
    assert program('prepare', str(tmp_path / 'text.mp4')).stderr.endswith('text.mp4: is a file, and a folder is wanted; give the folder that holds it\n')


def test_prepare_fails_where_nothing_can_be_read(tmp_path):
    assert program('prepare', str(tmp_path)).returncode == 1
    (tmp_path / 'bad.mp4').write_text('this is no video')
    assert program('prepare', str(tmp_path)).returncode == 1
