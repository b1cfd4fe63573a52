"The notebook that measures pokes, as a form: every test of a tiny model, stopped and run again, and what it refuses."
import json

import pytest

from ccvs.bench.poke import fresh_poker
from ccvs.runs import what_to_evaluate
from ccvs.metrics.poked.modes import MODES
from ccvs.runs import RunError, fill_in, find_run, parameters, run_notebook

pytestmark = pytest.mark.usefixtures('one_thread')


def run(out, model, **values):
    path = find_run('evaluate_poke')
    run_notebook(path, fill_in(parameters(path), [], dict(plan='tiny', model=str(model), out_dir=str(out)) | values), out)
    return json.loads((out/'record.json').read_text())


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp('models')
    return {kind: fresh_poker('tiny', kind).save_pretrained(folder/kind) for kind in ('flow_matching', 'cvae')}


def test_every_test_and_once_more(models, tmp_path, capsys):
    name, given = what_to_evaluate([str(models['flow_matching'])])
    assert name == 'evaluate_poke' and given['model'] == str(models['flow_matching'])
    record = run(tmp_path, given['model'], cvae=str(models['cvae']), length=16, shown=1)
    numbers = record['numbers']
    assert record['overrides']['modes'] == list(MODES) and record['plan']['items'] == 3
    assert {'reach', 'accuracy', 'diversity', 'fvd', 'control_sensitivity', 'transfer', 'kps_acc', 'rivals', 'verdicts', 'search'} <= numbers.keys()
    assert set(numbers['fvd']) == {'model', 'cvae', 'warp', 'still'} and numbers['fvd']['model']['given'] == 1
    assert set(numbers['rivals']) == {'cvae', 'warp', 'still'} and 'mse' not in numbers['rivals']['still']['diversity']
    still = numbers['rivals']['still']['reach']
    assert still['off_of_all']['mean'] > .2 and still['background']['mean'] == 0
    assert len(numbers['kps_acc']['curves']['nearest']) == 16
    assert numbers['accuracy']['ssim_ipoke'] != numbers['accuracy']['ssim_mean']['mean'] < 1
    assert {path.name for path in (tmp_path/'samples'/'item_000').iterdir()} == {'groundtruth.mp4', 'sample_0.mp4', 'sample_1.mp4', 'overview.mp4', 'strips.png'}
    assert (tmp_path/'directions_0.png').is_file() and (tmp_path/'transfer.png').is_file() and '<video' in (tmp_path/'report.html').read_text()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path/'batches').iterdir()}
    again = run(tmp_path, given['model'], cvae=str(models['cvae']), length=16, shown=1)['numbers']
    assert {path: path.stat().st_mtime_ns for path in (tmp_path/'batches').iterdir()} == kept
    assert all(again[mode] == numbers[mode] for mode in ('reach', 'accuracy', 'diversity', 'control_sensitivity', 'transfer', 'kps_acc'))


def test_what_it_refuses(models, tmp_path):
    with pytest.raises(RunError, match="no test 'speed'"): run(tmp_path, models['cvae'], modes=['speed'])
    with pytest.raises(RunError, match='set length=16'): run(tmp_path, models['cvae'], modes=['fvd'])
    with pytest.raises(RunError, match='cannot be poked'): run(tmp_path, 'worlds/pusher')


def test_few_tests_of_the_baseline(models, tmp_path, capsys):
    record = run(tmp_path, models['cvae'], modes=['diversity', 'transfer', 'control_sensitivity'], data='worlds/dancer', plan='tiny', items=2)
    assert set(record['numbers']) == {'diversity', 'rivals', 'control_sensitivity', 'verdicts', 'search', 'model_digest', 'seconds'}
    assert 'nothing is carried over' in capsys.readouterr().out and not (tmp_path/'samples').exists()


def test_what_can_be_poked_is_found_out(models, tmp_path):
    assert what_to_evaluate(['worlds/pusher'])[0] == 'evaluate'
    (tmp_path/'logs'/'second_stage').mkdir(parents=True)
    assert what_to_evaluate([str(tmp_path)])[0] == 'evaluate_poke'
    (tmp_path/'broken').mkdir()
    (tmp_path/'broken'/'config.json').write_text('{')
    assert what_to_evaluate([str(tmp_path/'broken')])[0] == 'evaluate'
