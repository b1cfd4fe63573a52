"Paths in pixels to tokens: whatever the picture's size and shape, the place stays the place."
import pytest
import torch

from ccvs.control.trajectory import draw_crosses, fit_path, path_tokens, square_path, to_fractions, to_pixels
from ccvs.data.video import fit
from ccvs.data.worlds import render
from ccvs.metrics.control.steering import arm_errors
from ccvs.prior.pose import PoseCfg, build_pose

pytestmark = pytest.mark.usefixtures('one_thread')


def even(bins):
    "An estimator's codebook with evenly spread scalars."
    pose = build_pose(PoseCfg((4, 4), 8, 8, bins))
    with torch.no_grad(): pose.quantizer.embedding.weight.copy_((torch.arange(float(bins)) + .5)[:, None] / bins)
    return pose


@pytest.mark.parametrize('size, wanted', [((32, 64), (64, 64)), ((64, 32), (32, 32)), ((48, 48), (16, 32)), ((37, 91), (32, 32)), ((64, 64), (64, 64))])
def test_a_bright_spot_moves_as_the_path_does(size, wanted):
    "The centre of mass of a spot after `fit`, within a quarter of a pixel; the spot lies in the middle, so that it is not cut off."
    x, y = size[1] // 2 + 2, size[0] // 2 - 1
    picture = torch.zeros(1, 3, *size, dtype=torch.uint8)
    picture[..., y - 2:y + 3, x - 2:x + 3] = 255
    light = fit(picture, wanted)[0, 0].double()
    rows, columns = (torch.arange(n, dtype=torch.float64) for n in wanted)
    found = torch.stack([(light.sum(0) * columns).sum(), (light.sum(1) * rows).sum()]) / light.sum()
    torch.testing.assert_close(found, fit_path(torch.tensor([x, y], dtype=torch.float64), size, wanted), atol=.25, rtol=0)


def test_pixels_and_fractions():
    path = torch.rand(5, 2) * 31
    torch.testing.assert_close(to_pixels(to_fractions(path, (32, 48)), (32, 48)), path, atol=1e-5, rtol=1e-5)
    assert to_fractions(torch.tensor([[-9., 99.]]), (32, 32)).tolist() == [[0, 1]]
    assert to_fractions(torch.tensor([[-.5, 31.5]]), (32, 64)).tolist() == [[0, 1]]


@pytest.mark.parametrize('bins', [16, 64])
def test_a_path_survives_its_tokens_up_to_half_a_bin(bins):
    path, pose = render('pusher', 3, 12).extras['arm'], even(bins)
    back = to_pixels(pose.decode(path_tokens(pose, path, (64, 64), (64, 64))), (64, 64))[0]
    assert (back - torch.as_tensor(path)).abs().max() <= 64 / bins / 2 + 1e-3


def test_the_metric_of_steering_and_the_tokens_speak_of_the_same_place():
    "A real clip obeys its own path: the arm is found where the tokens say it is, to a pixel and half a bin."
    clip, pose = render('pusher', 5, 12), even(64)
    path = to_pixels(pose.decode(path_tokens(pose, clip.extras['arm'], (64, 64), (64, 64))), (64, 64))[0]
    assert arm_errors(clip.frames, clip.frames, path.detach().numpy()).mean() < 1.5


def test_the_square_path_stays_inside_and_turns_right():
    path = square_path(torch.tensor([.5, .5]), 40)
    assert ((path >= .2 - 1e-6) & (path < .8 + 1e-6)).all()
    assert path[0].tolist() == pytest.approx([.5, .5 - 10 / 64])
    moves = (path[1:] - path[:-1]).round(decimals=4).unique(dim=0)
    assert len(moves) == 4


def test_crosses_stay_in_the_picture_and_leave_the_original_alone():
    frames = torch.full((4, 3, 8, 8), 100, dtype=torch.uint8)
    marked = draw_crosses(frames, torch.tensor([[0., 0.], [1., 1.], [.5, .5], [0., 1.]]))
    assert (frames == 100).all() and [int((part != 100).any(0).sum()) for part in marked] == [4, 4, 9, 4]
    assert marked[2, 0, 3:6, 3:6].tolist() == [[0, 255, 0], [255, 255, 255], [0, 255, 0]]
