"""PSNR and SSIM of both official systems give the recorded numbers (CCVS spec 10.5, iPOKE spec 9.8)."""
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from ccvs.metrics.pairs.official import (batch_means, ccvs_psnr, ccvs_ssim, horizon_scores, ipoke_psnr, ipoke_ssim,
                                         ipoke_ssim_map, running_mean, upscaled)

from .cases import FOLDER, load_case

SCORES = dict(psnr=ccvs_psnr, ssim=ccvs_ssim)
TOLERANCE = dict(psnr=dict(atol=1e-4, rtol=1e-4), ssim=dict(atol=1e-6, rtol=1e-4))  # as recorded for the single calls


@cache
def recorded():
    "The case, its clips (N, T, 3, H, W) and every tensor; over_files, its --idx form and upscale are stored without a call."
    case = load_case('ccvs/metrics_psnr_ssim')
    tensors = load_file(FOLDER / 'ccvs' / 'metrics_psnr_ssim.safetensors')
    clips = {name: tensors[f'input/{name}'].permute(0, 1, 4, 2, 3) for name in ('real', 'fake')}
    return SimpleNamespace(case=case, tensors=tensors, **clips)


@pytest.mark.parametrize('name', ['psnr', 'ssim', 'psnr_identical'])
def test_single_calls(name):
    call = recorded().case.calls[name]
    real, fake = (x.permute(0, 1, 4, 2, 3) for x in (call.inputs['real'], call.inputs['fake']))
    kind = call.kind.removeprefix('metric.')
    call.check(kind, SCORES[kind](real, fake).mean())


@pytest.mark.parametrize('kind', SCORES)
def test_a_folder_of_clips(kind):
    r = recorded()
    assert len(r.real) == 18  # two more than a batch: they are dropped, which the tolerance sees
    found = batch_means(SCORES[kind], r.real, r.fake).mean()
    torch.testing.assert_close(found.float(), r.tensors[f'output/over_files/{kind}'], **TOLERANCE[kind])


@pytest.mark.parametrize('kind', SCORES)
def test_a_folder_frame_by_frame(kind):
    r = recorded()
    found = horizon_scores(SCORES[kind], r.real, r.fake, [0, 1]).float()
    expected = torch.stack([r.tensors[f'output/over_files_idx/{kind}.{t}'] for t in (0, 1)])
    torch.testing.assert_close(found, expected, **TOLERANCE[kind])


def test_upscaled_frames():
    tensors = recorded().tensors
    found = upscaled(tensors['input/x'])
    assert list(found.shape) == tensors['output/upscale/shape'].tolist()
    torch.testing.assert_close(found[..., ::20, ::20], tensors['output/upscale/sample'], atol=1e-6, rtol=0)  # float32: processors round the four products differently


@cache
def ipoke():
    "Three calls of two frames; weights none, half precision inputs are exact."
    tensors = load_file(FOLDER / 'ipoke' / 'ssim_psnr.safetensors')
    return tensors | {name: tensors[f'input/{name}'].float() for name in ('pred', 'target')}


def check(name, found, atol):
    torch.testing.assert_close(found.float(), ipoke()[f'output/{name}'], atol=atol, rtol=1e-5)  # tolerances of the record


def test_ipoke_per_call():
    calls = [*zip(ipoke()['pred'], ipoke()['target'])]
    check('ssim_per_update', torch.stack([ipoke_ssim(*call) for call in calls]), 9.6e-6)
    check('psnr_per_update', torch.stack([ipoke_psnr(*call) for call in calls]), 2e-5)


def test_ipoke_running_values():
    pred, target = ipoke()['pred'].flatten(0, 1)[:, None], ipoke()['target'].flatten(0, 1)[:, None]  # six clips of one frame
    check('ssim', torch.tensor(running_mean(ipoke_ssim, pred, target, 2)), 8.5e-6)
    check('psnr', torch.tensor(running_mean(ipoke_psnr, pred, target, 2)), 2e-5)


def test_ipoke_map_and_a_stated_range():
    pred, target = ipoke()['pred'][0], ipoke()['target'][0]
    check('ssim_map', ipoke_ssim_map(pred, target), 1.1e-4)
    check('ssim_data_range_2', ipoke_ssim_map(pred, target, 2).mean(), 9.6e-6)
    check('psnr_data_range_2', ipoke_psnr(pred, target, 2), 2e-5)
