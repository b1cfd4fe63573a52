"The notebooks that measure, as forms: a detector trained in small, folders compared with it, protocols side by side."
import json

import pytest
import torch

from ccvs.runs import what_to_evaluate
from ccvs.core.seed import torch_rng
from ccvs.data.damage import noisy
from ccvs.data.video import write_video
from ccvs.data.worlds import render
from ccvs.runs import RunError, fill_in, find_run, parameters, run_notebook

pytestmark = pytest.mark.usefixtures('one_thread')


def run(name, out, **values):
    "Run a notebook with these parameters; its record."
    path = find_run(name)
    run_notebook(path, fill_in(parameters(path), [], values | dict(out_dir=str(out))), out)
    return json.loads((out/'record.json').read_text())


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    "A folder with real/ and fake/, eight videos each."
    folder = tmp_path_factory.mktemp('videos')
    for number in range(8):
        clip = torch.from_numpy(render('pusher', number, 16, 32).frames)
        write_video(folder/'real'/f'vid_{number:05d}.mp4', clip, crf=10)
        write_video(folder/'fake'/f'vid_{number:05d}.mp4', torch.cat([clip[:4], noisy(clip[4:], 4, torch_rng(number))]), crf=10)
    return folder


def test_a_detector_is_trained_and_measures_folders(videos, tmp_path, capsys):
    record = run('train_detector', tmp_path/'detector', preset='tiny', steps=2, clips=2, frames=10, check_clips=1)
    assert record['overrides']['steps'] == 2 and record['numbers']['asked'] == 20
    again = run('train_detector', tmp_path/'detector', preset='tiny', steps=2, clips=2, frames=10, check_clips=1)
    assert again['resumed_at'] == 2
    name, given = what_to_evaluate([str(videos)])
    assert name == 'evaluate_folders'
    numbers = run(name, tmp_path/'out', **given, given=4, weights=str(tmp_path/'detector'))['numbers']
    assert numbers['pairs'] == 8 and len(numbers['psnr']['mean']) == 12 and numbers['psnr']['overall']['mean'] < 30
    said = capsys.readouterr().out
    assert 'comparing 8 pairs of videos' in said and f'psnr: {numbers["psnr"]["overall"]["mean"]:.3f} (' in said and 'Fréchet distance, worlds' in said
    assert numbers['fvd']['value'] > 0 and 'not I3D' in numbers['fvd']['detector'] and numbers['fvd']['given'] == 4
    assert '<video' in (tmp_path/'out'/'report.html').read_text() or '<svg' in (tmp_path/'out'/'report.html').read_text()


def test_what_is_evaluated_is_found_out_from_names(videos, tmp_path, monkeypatch):
    assert what_to_evaluate([]) == ('evaluate', dict(model=None))
    assert what_to_evaluate(['worlds/pusher']) == ('evaluate', dict(model='worlds/pusher'))
    (tmp_path/'trained').mkdir()
    monkeypatch.chdir(tmp_path)
    assert what_to_evaluate(['./trained']) == ('evaluate', dict(model=str((tmp_path/'trained').resolve())))    # a run works in another folder
    two = what_to_evaluate([str(videos/'fake'), str(videos/'real')])
    assert two == ('evaluate_folders', dict(real=str((videos/'fake').resolve()), fake=str((videos/'real').resolve())))
    with pytest.raises(RunError, match='no folder'):
        what_to_evaluate([str(videos/'real'), str(tmp_path/'absent')])
    with pytest.raises(RunError, match='found 3'):
        what_to_evaluate(['a', 'b', 'c'])


def test_one_set_of_clips_under_every_protocol(tmp_path):
    numbers = run('protocols', tmp_path, clips=8)['numbers']
    assert set(numbers) == {'ccvs_bair', 'ccvs_kinetics', 'ccvs_drums', 'ipoke', 'magvit_bair', 'stylegan_v', 'cd_fvd', 'worlds'}
    values = [record['value'] for record in numbers.values()]
    assert min(values) > 0 and len(set(values)) == len(values)            # no two protocols agree
