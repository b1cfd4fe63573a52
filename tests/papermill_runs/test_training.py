"The two training notebooks, as forms: filled in, run, and run again."
import json

import pytest

from ccvs.runs import RunError, fill_in, find_run, parameters, run_notebook
from ccvs.synth import from_pretrained
from ccvs.synth.saved.predictor import load_codec
from ccvs.train.pieces import latest_checkpoint, load_checkpoint, read_metrics

SMALL = dict(preset='tiny', steps=2, clips=4, frames=8, check_clips=3)


def train(name, out):
    "Run a training notebook in small; its record."
    path = find_run(name)
    run_notebook(path, fill_in(parameters(path), [], SMALL | dict(out_dir=str(out))), out)
    return json.loads((out / name.removeprefix('train_') / 'record.json').read_text())


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    "A folder in which both stages were trained, and their records."
    out = tmp_path_factory.mktemp('run')
    return out, [train(name, out) for name in ('train_codec', 'train_prior')]


def test_from_nothing_to_a_predictor(trained):
    out, records = trained
    for name, record in zip(('codec', 'prior'), records):
        assert record['preset'] == 'tiny' and record['overrides']['steps'] == 2 and record['resumed_at'] == 0
        assert [row['step'] for row in read_metrics(out / name)] == [0, 1]
        assert load_checkpoint(latest_checkpoint(out / name / 'checkpoints')).step == 2
        assert (out / f'train_{name}.ipynb').is_file()
    assert 0 < records[0]['numbers']['psnr'] < 60 and len(records[0]['numbers']['psnr_per_frame']) == SMALL['frames'] - 1
    assert (out / 'codec' / 'reconstruction.png').is_file() and (out / 'prior' / 'futures.png').is_file()
    model, codec = from_pretrained(out / 'model'), load_codec(out / 'codec')
    for found, wanted in zip(model.codec.parameters(), codec.parameters(), strict=True):
        assert (found - wanted).abs().max() <= 1e-3 * wanted.abs().max() + 1e-7      # the predictor is stored in 16 bits


@pytest.mark.slow
def test_a_finished_run_stays_as_it_is(trained):
    out, (first, _) = trained
    again = train('train_codec', out)
    assert again['resumed_at'] == 2 and again['numbers']['psnr'] == pytest.approx(first['numbers']['psnr'], rel=1e-5)   # the same weights
    assert [row['step'] for row in read_metrics(out / 'codec')] == [0, 1]


def test_a_misspelt_preset_is_one_sentence(tmp_path):
    path = find_run('train_codec')
    with pytest.raises(RunError, match="there is no preset 'tinny', did you mean tiny; choose one of tiny, worlds64"):
        run_notebook(path, dict(preset='tinny', out_dir=str(tmp_path)), tmp_path)
    assert not [run.name for run in path.parent.glob('*.ipynb') if '[preset]' in run.read_text(encoding='utf-8')]    # `pick` says it, everywhere
