"Training with controls, as forms: each kind of model from nothing to a predictor that does what it was made for."
import json
import shutil

import pytest
import torch

from ccvs.core.config import to_dict
from ccvs.data.worlds import render
from ccvs.runs import fill_in, find_run, parameters, run_notebook
from ccvs.synth import load
from ccvs.train.pieces import read_metrics

SMALL = dict(preset='tiny', steps=2, clips=4, frames=8, check_clips=3)


def train(name, out, **more):
    "Run a training notebook in small; its record."
    path = find_run(name)
    run_notebook(path, fill_in(parameters(path), [], SMALL | dict(out_dir=str(out)) | more), out)
    return json.loads((out / name.removeprefix('train_') / 'record.json').read_text())


@pytest.fixture(scope='module')
def begun(tmp_path_factory):
    "A folder with a codec, a pose estimator and a sound codec."
    out = tmp_path_factory.mktemp('run')
    train('train_codec', out)
    records = train('train_pose', out), train('train_sound', out)
    for name, record in zip(('pose', 'sound'), records):
        assert [row['step'] for row in read_metrics(out / name)] == [0, 1] and record['numbers']['held_out_error'] > 0
    assert (out / 'pose' / 'seen.png').is_file() and (out / 'sound' / 'slices.png').is_file()
    return out


@pytest.mark.parametrize('control, world', [('trajectory+end_frame', 'pusher'), ('sound', 'drummer'), ('label', 'acts'), ('nothing', 'pusher')])
def test_from_nothing_to_a_model_that_is_led(begun, control, world, tmp_path):
    for part in ('codec', 'pose', 'sound'): shutil.copytree(begun / part, tmp_path / part)
    record = train('train_prior', tmp_path, control=control, data=f'worlds/{world}')
    model, clip = load(tmp_path / 'model'), render(world, 0, 8, 32)
    assert record['overrides']['control'] == control and record['prior'] == to_dict(model.transformer.cfg)
    wishes = dict(trajectory=dict(trajectory=clip.extras.get('arm')), sound=dict(sound=clip.extras.get('sound')), label=dict(label='rise'), nothing={},
                  end_frame=dict(end=clip.frames[-1]))
    asked = {key: value for name in control.split('+') for key, value in wishes[name].items()}
    assert model.predict(clip.frames[:4], 4, **asked).shape == (4, 3, 32, 32)
    if control in ('nothing', 'label'): assert model.predict(None, 3, samples=2, **asked).shape == (2, 3, 3, 32, 32)
    if 'end_frame' in control:
        with pytest.raises(ValueError, match='needs end='): model.predict(clip.frames[:4], 4)
    assert (model.pose is not None, model.sound is not None) == ('trajectory' in control, control == 'sound')
    assert (tmp_path / 'prior' / 'futures.png').is_file() and torch.isfinite(torch.tensor(record['numbers']['held_out_nats']))
