"""PSNR and SSIM of whole folders, recorded without a call; single calls are cases of the runner (CCVS spec 10.5)."""
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from ccvs.metrics.pairs.official import batch_means, ccvs_psnr, ccvs_ssim, horizon_scores, upscaled

from .cases import FOLDER

SCORES = dict(psnr=ccvs_psnr, ssim=ccvs_ssim)
TOLERANCE = dict(psnr=dict(atol=1e-4, rtol=1e-4), ssim=dict(atol=1e-6, rtol=1e-4))  # as recorded for the single calls


@cache
def recorded():
    "The clips (N, T, 3, H, W) and every tensor."
    tensors = load_file(FOLDER / 'ccvs' / 'metrics_psnr_ssim.safetensors')
    clips = {name: tensors[f'input/{name}'].permute(0, 1, 4, 2, 3) for name in ('real', 'fake')}
    return SimpleNamespace(tensors=tensors, **clips)


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
