"The first-stage training notebooks of iPOKE, as forms: filled in, run, and run again."
import json

import pytest
import torch

from ccvs.codec import image, poke, video
from ccvs.core.config import from_dict
from ccvs.core.networks import load_weights
from ccvs.runs import fill_in, find_run, parameters, read_filled, run_notebook
from ccvs.train.pieces import latest_checkpoint, load_checkpoint, read_metrics

SMALL = dict(preset='tiny', steps=2, clips=4, check_clips=3)
STAGES = {   # name -> configuration and builder of what it leaves, a picture, its number
    'video_codec': (video.VideoCodecCfg, video.build_video_codec, 'played.png', 'psnr'),
    'image_encoder': (image.ImageEncoderCfg, image.build_image_encoder, 'decoded.png', 'psnr'),
    'poke_encoder': (poke.PokeEncoderCfg, poke.build_poke_encoder, 'motion.png', 'error')}


def train(name, out, **more):
    "Run a training notebook in small; its record."
    path = find_run(f'train_{name}')
    run_notebook(path, fill_in(parameters(path), [], SMALL | dict(out_dir=str(out)) | more), out)
    return json.loads((out / name / 'record.json').read_text())


@pytest.mark.parametrize('name', STAGES)
def test_from_nothing_to_a_network_and_on(name, tmp_path):
    cfg, build, picture, number = STAGES[name]
    record, out = train(name, tmp_path), tmp_path / name
    assert record['preset'] == 'tiny' and record['overrides']['steps'] == 2 and record['resumed_at'] == 0
    assert [row['step'] for row in read_metrics(out)] == [0, 1] and record['numbers'][number] > 0
    saved = load_checkpoint(latest_checkpoint(out / 'checkpoints'))
    net = load_weights(out / f'{name}.safetensors', build(from_dict(cfg, json.loads((out / f'{name}.json').read_text()))))
    for key, value in saved.parts['codec' if name == 'video_codec' else 'net'].items():
        assert torch.equal(net.state_dict()[key], value), key                        # parameters and buffers
    assert saved.step == 2 and (out / picture).is_file() and (tmp_path / f'train_{name}.ipynb').is_file()
    again = train(name, tmp_path)
    assert again['resumed_at'] == 2 and again['numbers'][number] == pytest.approx(record['numbers'][number], rel=1e-5)


@pytest.mark.parametrize('name', STAGES)
def test_a_published_run_would_start(name, tmp_path):
    filled = read_filled(f'iper_128/train_{name}').parameters | dict(small=True, data='worlds/dancer', clips=4, check_clips=3, steps=0, out_dir=str(tmp_path))
    record = train(name, tmp_path, **filled)
    assert record['preset'] == 'iper_128' and record['loop']['steps'] == record['numbers']['steps'] == 2
