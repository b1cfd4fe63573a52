"An evaluation ends with the same numbers however it was cut, and notices when what it measured has changed."
from dataclasses import replace

import numpy as np
import pytest
import torch

from ccvs.codec.frame import PRESETS as CODECS, build_frame_codec
from ccvs.core.config import override
from ccvs.data.clips import ArrayClips
from ccvs.metrics import evaluate as module
from ccvs.metrics.evaluate import SetCfg, TaskCfg, digest, evaluate, measure, numbers, set_numbers, verdicts
from ccvs.metrics.frechet.detector import Detector
from ccvs.metrics.frechet.protocol import PROTOCOLS
from ccvs.prior.transformer import PRESETS as TRANSFORMERS, build_transformer
from ccvs.synth.pipeline import PRESETS, Predictor

CFG = TaskCfg(given=2, length=2, samples=2, batch=2)


def toy(seed=0):
    torch.manual_seed(seed)
    return Predictor(build_frame_codec(CODECS['tiny']), build_transformer(replace(TRANSFORMERS['tiny'], grid=CODECS['tiny'].grid)), PRESETS['tiny'])


@pytest.fixture(scope='module')
def model():
    return toy()


@pytest.fixture(scope='module')
def clips():
    return np.random.default_rng(0).integers(0, 256, (5, 4, 3, 32, 32), np.uint8)


@pytest.fixture
def calls(monkeypatch):
    "Places of the batches that are really measured."
    seen, real = [], measure
    monkeypatch.setattr(module, 'measure', lambda model, batch, cfg, first, sets: seen.append(first) or real(model, batch, cfg, first, sets))
    return seen


def test_a_resumed_run_measures_only_the_rest_and_agrees_exactly(model, clips, calls, tmp_path):
    evaluate(model, ArrayClips(clips[:4]), CFG, tmp_path)
    assert calls == [0, 2]
    resumed = evaluate(model, ArrayClips(clips), CFG, tmp_path)
    assert calls == [0, 2, 4]
    whole = evaluate(model, ArrayClips(clips), CFG)
    assert whole.keys() == resumed.keys() and all(np.array_equal(whole[name], resumed[name]) for name in whole)
    assert whole['recon_psnr'].shape == (5, 3) and whole['mean_psnr'].shape == (5, 2)


def test_other_weights_settings_or_pixels_are_measured_anew(model, clips, calls, tmp_path):
    one = ArrayClips(clips[:2])
    evaluate(model, one, CFG, tmp_path)
    evaluate(toy(1), one, CFG, tmp_path)
    evaluate(model, one, replace(CFG, seed=1), tmp_path)
    evaluate(model, ArrayClips(255 - clips[:2]), CFG, tmp_path)
    assert calls == [0, 0, 0, 0]
    evaluate(model, one, CFG, tmp_path)
    assert calls == [0, 0, 0, 0]
    assert digest(model) == digest(toy()) != digest(toy(1))


def test_the_bars_are_what_the_shipped_model_must_reach(model, clips):
    rows = evaluate(model, ArrayClips(clips), CFG)
    better = rows | dict(recon_psnr=np.full((5, 3), 28.), mean_psnr=np.maximum(rows['copy_psnr'], rows['given_psnr']) + 1,
                         best_ssim=np.maximum(rows['copy_ssim'], rows['given_ssim']) + .01, diversity=np.ones((5, 2)))
    assert all(verdicts(numbers(better, CFG)).values())
    for name, worse in dict(recon_psnr=27.9, mean_psnr=0., best_ssim=-1., diversity=0.).items():
        broken = better[name].copy()
        broken[:, -1 if name != 'recon_psnr' else slice(None)] = worse      # losing at one horizon is losing
        passed = verdicts(numbers(better | {name: broken}, CFG))
        assert not all(passed.values()), name


def test_clips_that_are_too_short_or_absent_are_told(model, clips):
    with pytest.raises(ValueError, match='need clips of 4, found 3'):
        measure(model, torch.from_numpy(clips[:1, :3]), CFG)
    with pytest.raises(ValueError, match='at least one clip'):
        evaluate(model, ArrayClips(clips[:0]), CFG)


def test_sets_are_compared_after_a_resumed_run_too(model, clips, calls, tmp_path):
    "Features are kept with the rest; another detector is asked anew."
    colour = Detector('mean colour', '1', lambda x: x.float().mean((3, 4)).flatten(1), 1)
    sets = SetCfg(override(PROTOCOLS['worlds'], frames=4, given=2, side=None, n_real=4, n_fake=4), colour)
    rows = evaluate(model, ArrayClips(clips), CFG, tmp_path, sets)
    again = evaluate(model, ArrayClips(clips), CFG, tmp_path, sets)
    assert calls == [0, 2, 4] and np.array_equal(rows['fake_feats'], again['fake_feats'])
    np.testing.assert_allclose(rows['real_feats'][1], clips[1].mean((2, 3)).ravel(), rtol=1e-5)   # float32 against float64
    np.testing.assert_array_equal(rows['fake_feats'][:, :6], rows['real_feats'][:, :6])           # given frames are the real ones
    assert (rows['fake_feats'][:, 6:] != rows['real_feats'][:, 6:]).any()
    record = set_numbers(rows, sets)
    assert record['n_real'] == record['n_fake'] == 4 and record['given'] == 2 and record['value'] > 0
    evaluate(model, ArrayClips(clips[:2]), CFG, tmp_path, sets._replace(detector=colour._replace(checksum='2')))
    assert calls == [0, 2, 4, 0]
