"Every published run, two steps at a fraction of the size: each form is filled in for a notebook that takes it, and the stages fit together."
import ast
import json
import shutil
from functools import cache

import pytest

from ccvs.published import STAGES
from ccvs.runs import fill_in, find_run, parameters, read_filled, run_notebook, runs_folder
from ccvs.synth import load

pytestmark = pytest.mark.usefixtures('one_thread')

FOLDER = runs_folder() / 'published'
FORMS = sorted(path.relative_to(FOLDER).with_suffix('').as_posix() for path in FOLDER.rglob('*.yaml'))
WORLD = dict(bairhd='worlds/pusher', kinetics600='worlds/acts', drums='worlds/drummer', ucf101='worlds/acts')
LIGHT = dict(   # notebook -> what a dry run changes, besides size and steps
    train_codec=dict(clips=3, frames=10, check_clips=2), train_pose=dict(clips=3, frames=6, check_clips=2),
    train_sound=dict(clips=3, frames=17, check_clips=2), train_prior=dict(clips=3, frames=17, check_clips=2), synthesize=dict(clips=2, batch=2),
    evaluate_folders=dict(protocol='worlds'))


@cache
def default(notebook): return parameters(find_run(notebook))


@pytest.mark.parametrize('name', FORMS)
def test_a_form_says_only_what_its_notebook_knows(name):
    filled = read_filled(name)
    values = fill_in(default(filled.notebook), [], filled.parameters)
    assert filled.official and filled.notebook in STAGES
    kinds = {key: type(default(filled.notebook)[key]['default']) for key in values}
    wrong = {key: value for key, value in values.items() if not isinstance(value, kinds[key]) and kinds[key] is not type(None)}
    assert not wrong


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    "A folder that stands for papermill_runs/out, with a detector in it for the worlds' protocol."
    folder = tmp_path_factory.mktemp('out')
    path = find_run('train_detector')
    run_notebook(path, fill_in(parameters(path), [], dict(preset='tiny', steps=2, clips=2, frames=10, check_clips=1, out_dir=str(folder / 'detector'))), folder / 'detector')
    return folder


def run_here(path, values, out):
    "Run a form in this process, where everything is imported already: a kernel takes longer to start than a dry run to run."
    out.mkdir(parents=True, exist_ok=True)
    names = {}
    for number, cell in enumerate(cell for cell in json.loads(path.read_text(encoding='utf-8'))['cells'] if cell['cell_type'] == 'code'):
        code = compile(ast.parse(''.join(cell['source'])), f'{path.name} code cell {number}', 'exec')
        exec(code, names)
        if 'parameters' in cell['metadata'].get('tags', ()): names |= values


def try_out(name, place, run):
    "Do a published run in small, with everything it reads and writes moved into `place`; the run's folder."
    filled, dataset = read_filled(name), name.split('/')[0]
    values = filled.parameters | LIGHT[filled.notebook] | (dict(small=True) if filled.notebook.startswith('train') else {})
    if 'data' in values: values['data'] = WORLD[dataset]
    if filled.notebook == 'evaluate_folders': values['weights'] = str(place / 'detector')
    for key in ('out_dir', 'parts_dir', 'model', 'real', 'fake'):
        if key in values: values[key] = str(place / values[key].removeprefix('out/'))
    out = place / filled.parameters['out_dir'].removeprefix('out/')
    run(find_run(filled.notebook), fill_in(default(filled.notebook), [], values), out)
    return out


def in_order(dataset):
    names = [name for name in FORMS if name.startswith(f'{dataset}/')]
    return sorted(names, key=lambda name: STAGES.index(read_filled(name).notebook))


@pytest.mark.parametrize('dataset, run', [('ucf101', run_notebook), ('bairhd', run_here), ('kinetics600', run_here), ('drums', run_here)],
                         ids=lambda value: getattr(value, '__name__', value))
def test_two_steps_of_every_run(dataset, run, place):
    for name in in_order(dataset):
        filled = read_filled(name)
        out = try_out(name, place, run)
        stage = filled.notebook.removeprefix('train_')
        record = json.loads((out / (stage if filled.notebook.startswith('train') else '') / 'record.json').read_text())
        if filled.notebook.startswith('train'):
            assert record['preset'] == filled.parameters['preset'] and record['numbers']['steps'] == 2
            assert record['loop']['steps'] == 2                                     # the resolved configuration
        if run is run_notebook: assert '"ename"' not in (out / f'{filled.notebook}.ipynb').read_text()
        if filled.notebook == 'train_prior':
            assert load(out / 'model').cfg.fps == filled.parameters.get('fps', 10.)
        if filled.notebook == 'synthesize':
            assert len(list((out / 'fake').glob('*.mp4'))) == 2
            frames = filled.parameters['given'] + filled.parameters['length']
            assert record['numbers']['frames'] == frames
    shutil.rmtree(place / dataset, ignore_errors=True)
