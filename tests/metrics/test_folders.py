"Folders of videos: the right files meet, the right frames count, a stopped run goes on, misfits are named."
import numpy as np
import pytest
import torch

from ccvs.data.video import read_video, write_video
from ccvs.metrics.compare.folders import pair_numbers, pair_rows, remembering, score_pairs, size_curve, video_pairs
from ccvs.metrics.frechet.detector import Detector
from ccvs.metrics.image import psnr
from ccvs.metrics.pairs.lpips import random_lpips

pytestmark = pytest.mark.usefixtures('one_thread')


def clip(seed, frames=4):
    return torch.randint(256, (frames, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def folders(tmp_path):
    "Three pairs; each fake is another clip."
    for number in range(3):
        for side, seed in (('real', number), ('fake', 10 + number)):
            write_video(tmp_path/side/f'vid_{number:05d}.mp4', clip(seed), crf=0)
    return tmp_path/'real', tmp_path/'fake'


def test_names_decide_who_belongs_together(folders):
    real, fake = folders
    assert [(a.name, b.name) for a, b in video_pairs(real, fake)] == [(f'vid_{i:05d}.mp4',) * 2 for i in range(3)]
    (fake/'vid_00002.mp4').rename(fake/'zzz.mp4')
    with pytest.raises(ValueError, match='vid_00002|zzz'):
        video_pairs(real, fake)


def test_foreign_names_are_paired_in_order_if_the_numbers_agree(folders):
    real, fake = folders
    for path in list(fake.iterdir()):
        path.rename(fake/f'made{path.name}')
    assert [(a.name, b.name) for a, b in video_pairs(real, fake)] == [(f'vid_{i:05d}.mp4', f'madevid_{i:05d}.mp4') for i in range(3)]
    (fake/'madevid_00001.mp4').unlink()
    with pytest.raises(ValueError, match='3 real and 2 generated'):
        video_pairs(real, fake)


def test_given_frames_do_not_count(folders):
    real, fake = (read_video(folder/'vid_00000.mp4') for folder in folders)
    rows = pair_rows(real, torch.cat([real[:2], fake[2:]]), given=2)
    np.testing.assert_array_equal(rows['psnr'], psnr(fake[2:], real[2:], 255).numpy())
    assert np.isfinite(pair_rows(real, real, 0)['psnr']).all()         # equal frames get the ceiling, not infinity
    with pytest.raises(ValueError, match='fewer than the 4'):
        pair_rows(real, fake, given=4)


def test_a_stopped_run_goes_on_with_the_same_numbers(folders, tmp_path):
    pairs, kept = video_pairs(*folders), tmp_path/'kept'
    rows = score_pairs(pairs, folder=kept, batch=2)
    files = {path: path.stat().st_mtime_ns for path in kept.iterdir()}
    again = score_pairs(pairs, folder=kept, batch=2)
    assert all((rows[name] == again[name]).all() for name in rows) and rows['psnr'].shape == (3, 4)
    assert {path: path.stat().st_mtime_ns for path in kept.iterdir()} == files
    write_video(folders[1]/'vid_00002.mp4', clip(99), crf=0)             # a new file is measured anew
    assert (score_pairs(pairs, folder=kept, batch=2)['psnr'][2] != rows['psnr'][2]).all()


def test_a_pair_that_does_not_fit_is_named(folders):
    write_video(folders[1]/'vid_00001.mp4', clip(5, frames=6), crf=0)
    with pytest.raises(ValueError, match='vid_00001.mp4.*one length'):
        score_pairs(video_pairs(*folders))


def test_numbers_are_means_over_pairs(folders):
    rows = score_pairs(video_pairs(*folders))
    numbers = pair_numbers(rows)
    np.testing.assert_allclose(numbers['psnr']['mean'], rows['psnr'].mean(0), rtol=1e-12)
    assert numbers['psnr']['overall']['low'] <= numbers['psnr']['overall']['mean'] <= numbers['psnr']['overall']['high'] and numbers['pairs'] == 3


def test_a_detector_remembers_clips_not_places(tmp_path):
    asked = []
    detector = Detector('toy', '1', lambda clips: asked.append(len(clips)) or clips.float().mean((1, 3, 4)), 1)
    clips = torch.stack([clip(seed) for seed in range(3)])
    first, again = (remembering(detector, tmp_path).features(clips) for _ in range(2))
    assert torch.equal(first, again) and asked == [3]
    remembering(detector, tmp_path).features(clips.flip(0))
    remembering(detector._replace(checksum='2'), tmp_path).features(clips)   # other weights, other features
    assert asked == [3, 3, 3]


def test_a_curve_over_sizes_ends_with_all_clips():
    feats = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    sizes, mean, low, high = size_curve(feats, feats + 1)
    assert sizes[-1] == 20 and low[-1] == pytest.approx(high[-1], rel=1e-9) == pytest.approx(3, rel=1e-6)   # a shift by 1 in 3 features
    with pytest.raises(ValueError, match='8 clips'):
        size_curve(feats[:5], feats)


def test_lpips_joins_when_asked(folders):
    big = [torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed)).mul(255).byte() for seed in (0, 1)]
    metric = random_lpips('squeeze')
    rows = pair_rows(*big, given=0, lpips=metric)
    np.testing.assert_array_equal(rows['lpips'], metric(big[1], big[0]).numpy())
    assert (pair_rows(big[0], big[0], 0, metric)['lpips'] == 0).all()
