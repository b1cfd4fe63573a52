"`ccvs evaluate MODEL --control NAME`: numbers, film strips and a record; resumed when stopped; one sentence for a model that cannot be led."
import json
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from ccvs.cli import app
from ccvs.codec.frame import PRESETS as CODECS, build_frame_codec
from ccvs.prior.pose import PoseCfg, build_pose
from ccvs.prior.transformer import TransformerCfg, build_transformer
from ccvs.runs import RunError
from ccvs.synth.pipeline import PRESETS, Predictor


def save_toy(folder, pose=True):
    torch.manual_seed(0)
    eye = build_pose(PoseCfg(CODECS['tiny'].grid, CODECS['tiny'].latent_width, 8, 16)) if pose else None
    told = dict(control_vocab=16, control_tokens=2) if pose else {}
    sizes = TransformerCfg(vocab=32, layers=1, heads=2, width=16, grid=CODECS['tiny'].grid, frames=8, capacity=200, **told)
    return Predictor(build_frame_codec(CODECS['tiny']), build_transformer(sizes), replace(PRESETS['tiny'], given=2), eye).save_pretrained(folder)


def test_the_command_prints_one_line_of_numbers_and_goes_on_where_it_was(tmp_path):
    model, out = save_toy(tmp_path/'model'), tmp_path/'out'
    words = ['evaluate', str(model), '--control', 'trajectory', '--json', '--out', str(out), '--set', 'length=3', '--set', 'shown=1', '--set', 'batch=1']
    numbers = json.loads(CliRunner().invoke(app, [*words, '--set', 'clips=2'], catch_exceptions=False).stdout)['numbers']
    assert numbers['control'] == 'trajectory' and numbers['clips'] == 2 and set(numbers['verdicts']) == {'own_path_below_2_px', 'drawn_path_below_3_px'}
    assert numbers['finder']['mean'] < 2 and (out/'strip_0.png').is_file() and 'Verdicts' in (out/'report.html').read_text()
    kept = {path: path.stat().st_mtime_ns for path in (out/'batches').iterdir()}
    again = json.loads(CliRunner().invoke(app, [*words, '--set', 'clips=3'], catch_exceptions=False).stdout)['numbers']
    assert again['clips'] == 3 and len(kept) == 2 and kept.items() <= {path: path.stat().st_mtime_ns for path in (out/'batches').iterdir()}.items()


def test_a_model_that_cannot_be_led_says_so(tmp_path):
    with pytest.raises(RunError, match='cannot be asked for trajectory='):
        CliRunner().invoke(app, ['evaluate', str(save_toy(tmp_path/'plain', pose=False)), '--control', 'trajectory', '--out', str(tmp_path/'out')], catch_exceptions=False)


def test_a_control_is_measured_on_its_own_world(tmp_path):
    with pytest.raises(RunError, match='--control measures one model'):
        CliRunner().invoke(app, ['evaluate', '--control', 'label', '--data', 'worlds/pusher'], catch_exceptions=False)
