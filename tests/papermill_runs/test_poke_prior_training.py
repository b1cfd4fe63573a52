"The second-stage training notebooks of iPOKE, as forms: filled in after a small first stage, run, and run again."
import json
import shutil

import pytest
import torch

from ccvs.runs import fill_in, find_run, parameters, read_filled, run_notebook
from ccvs.synth import Poker, load
from ccvs.train.pieces import read_metrics

SMALL = dict(preset='tiny', steps=2, clips=4, check_clips=2)


def train(name, out, **more):
    "Run a training notebook in small; its record."
    path = find_run(f'train_{name}')
    run_notebook(path, fill_in(parameters(path), [], SMALL | dict(out_dir=str(out)) | more), out)


@pytest.fixture(scope='module')
def first_stage(tmp_path_factory):
    out = tmp_path_factory.mktemp('first')
    for name in ('video_codec', 'image_encoder', 'poke_encoder'): train(name, out, **({} if name == 'poke_encoder' else dict(data='worlds/plant')))
    return out


@pytest.mark.parametrize('prior', ['cinn', 'flow_matching'])
def test_from_trained_parts_to_a_poker_and_on(prior, first_stage, tmp_path):
    out = shutil.copytree(first_stage, tmp_path / 'run')
    train('poke_prior', out, prior=prior)
    record = json.loads((out / prior / 'record.json').read_text())
    assert [row['step'] for row in read_metrics(out / prior)] == [0, 1] and record['resumed_at'] == 0
    assert (out / prior / 'samples.png').is_file() and record['numbers']['off_still'] > 0
    poker = load(out / prior / 'model')
    assert isinstance(poker, Poker) and poker.poke(torch.zeros(3, 32, 32, dtype=torch.uint8), [((10, 10), (14, 12))]).shape == (5, 3, 32, 32)
    train('poke_prior', out, prior=prior)
    again = json.loads((out / prior / 'record.json').read_text())
    assert again['resumed_at'] == 2 and again['numbers']['nats'] == pytest.approx(record['numbers']['nats'], rel=1e-4)


def test_the_baseline(tmp_path):
    train('poke_vae', tmp_path)
    record = json.loads((tmp_path / 'cvae' / 'record.json').read_text())
    assert record['numbers']['steps'] == 2 and isinstance(load(tmp_path / 'cvae' / 'model'), Poker)


def test_published_runs_would_start(first_stage, tmp_path):
    out = shutil.copytree(first_stage, tmp_path / 'run')
    filled = read_filled('iper_64/train_poke_prior').parameters | dict(small=True, data='worlds/plant', pokes='tiny', clips=4, check_clips=2, steps=0)
    train('poke_prior', out, **(filled | dict(out_dir=str(out))))
    assert json.loads((out / 'cinn' / 'record.json').read_text())['preset'] == 'iper_64'
    filled = read_filled('taichi_128/train_poke_vae').parameters | dict(small=True, data='worlds/plant', clips=4, check_clips=2, steps=0)
    train('poke_vae', out, **(filled | dict(out_dir=str(out))))
    assert json.loads((out / 'cvae' / 'record.json').read_text())['preset'] == 'taichi_128'
