"Pokes are measured right: points are found where they are, rivals do what they say, numbers count what they should."
import numpy as np
import pytest
import torch

from ccvs.bench.poke import fresh_poker
from ccvs.control.poke import PRESETS as POKES
from ccvs.core.config import override
from ccvs.core.seed import torch_rng
from ccvs.data.worlds import render
from ccvs.metrics.control.keypoints import poked_errors
from ccvs.metrics.poked.asked import ask_keypoints, ask_motion, ask_world, clip_keypoints, moving_pixels
from ccvs.metrics.poked.evaluate import interval, measure_samples, mode_numbers, name_of, poke_verdicts
from ccvs.metrics.poked.following import FollowCfg, follow_point, quiet_points, shifts, softened
from ccvs.metrics.poked.measures import arrival, closeness, find_paths, keypoint_accuracy, keypoint_curves, obedience, same_rhythm, variety
from ccvs.metrics.poked.modes import PRESETS, PlanCfg, fan_vectors, made_clips, neighbour
from ccvs.metrics.poked.rivals import RubberRival, StillRival
from ccvs.metrics.poked.shown import poke_video, side_by_side, with_arrows
from ccvs.synth import load

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(scope='module')
def clip(): return render('plant', 1, 16)


@pytest.fixture(scope='module')
def item(clip): return ask_motion(clip, 1, POKES['worlds64'], torch_rng(2))


@pytest.mark.parametrize('size, step', [(64, (2, 1)), (32, (-1, 1)), (128, (3, -2))])
def test_a_shifted_picture_takes_its_points_along(size, step):
    frame = render('dancer', 4, 2, size).frames[0]
    frames = np.stack([np.roll(frame, (t * step[1], t * step[0]), (1, 2)) for t in range(4)])
    start = np.array([size // 2, size // 2 - 3])
    found = follow_point(frames, tuple(start))
    assert np.abs(found - (start + np.arange(4)[:, None] * step)).max() < .2


def test_frames_of_another_size_are_looked_at_alike():
    small, large = FollowCfg().fitted(32), FollowCfg().fitted(128)
    assert (small.radius, large.radius) == (5, 20) and small.stiffness == 16 * large.stiffness and large.reach == 24


def test_other_things_can_be_given_no_weight():
    rng = np.random.default_rng(0)
    wall, thing = rng.integers(0, 255, (2, 3, 64, 64), np.uint8)
    frames = wall[None].repeat(5, 0)
    for t in range(5): frames[t, :, 28:36, 20 + 4 * t:28 + 4 * t] = thing[:, :8, :8]
    weight = np.zeros((64, 64))
    weight[28:36, 20:28] = 1
    assert np.abs(follow_point(frames, (24, 32), weight=weight)[-1] - [40, 32]).max() < .2
    assert np.abs(follow_point(frames, (24, 32))[-1] - [24, 32]).max() < 1      # without, most of the patch is wall, and that stays


def test_softening_spares_the_first_frame(clip):
    soft = softened(clip.frames)
    assert (soft[0] == clip.frames[0]).all() and np.diff(soft[5].astype(int)).std() < np.diff(clip.frames[5].astype(int)).std()


def test_quiet_points_lie_where_nothing_moves(clip):
    moving = moving_pixels(clip)
    points = quiet_points(clip.frames[0], ~moving, radius=4)
    assert len(points) and not any(moving[y - 4:y + 5, x - 4:x + 5].any() for x, y in points)
    half = ((clip.frames[0].astype(float) + np.roll(clip.frames[0], 1, 2)) / 2).astype(np.uint8)
    assert .2 < np.median(shifts(clip.frames[0], half, points)[:, 0]) < .8


def test_items_know_where_their_points_end(clip, item):
    ((x, y), end), = item.pokes
    assert np.allclose(np.subtract(end, (x, y)), clip.motion_last[0, :, int(y), int(x)]) and not clip.occluded_last[0, int(y), int(x)]
    assert item.trusted == (item.errors <= 1).all() and item.tried >= 1
    assert ask_motion(clip._replace(motion_last=clip.motion_last * 0), 1, POKES['worlds64'], torch_rng(2)) is None


def test_points_that_cannot_be_found_are_drawn_again_and_counted(clip):
    blind = clip._replace(frames=clip.frames[:1].repeat(16, 0))            # says that it moves, and does not
    lost = ask_motion(blind, 1, POKES['worlds64'], torch_rng(2), tries=3)
    assert lost.tried == 3 and not lost.trusted and lost.errors.min() > 1


def test_keypoints_that_are_seen():
    dancing = render('dancer', 1, 16)
    points, seen = clip_keypoints(dancing)
    assert points.shape == (16, 17, 2) and not seen[~dancing.extras['visible'][0]].any()
    asked = ask_keypoints(dancing, override(POKES['worlds64'], most=17, always=True), torch_rng(0))
    assert set(asked.ids) <= set(np.flatnonzero(seen))
    hidden = ask_keypoints(dancing, override(POKES['worlds64'], most=17, always=True), torch_rng(0), official=True)
    assert set(hidden.ids) - set(np.flatnonzero(seen))
    stems, _ = clip_keypoints(render('plant', 0, 4))
    assert stems.shape[1] == 50


def test_rubber_arrives_and_stillness_does_not(item):
    rubber, still = (rival.poke(item.frames[0], item.pokes, samples=1) for rival in (RubberRival(), StillRival()))
    assert arrival(item, rubber)['off'] < .7 and abs(arrival(item, still)['off'] - arrival(item, still)['asked']) < .3
    assert (rubber[0, 0].numpy() == item.frames[0]).all() and (still == still[:, :1]).all()


def test_closeness_counts_the_best_as_the_highest(item):
    real = torch.from_numpy(item.frames)
    noisy = (real + torch.randint(40, real.shape, generator=torch_rng(0)).to(torch.uint8)).clamp(max=255)
    scores = closeness(item, torch.stack([noisy, real]))
    assert scores['ssim_best'] == pytest.approx(1) and scores['psnr_best'] == 80 and scores['ssim_mean'] < 1


def test_variety_is_taken_apart(item):
    clips = torch.from_numpy(item.frames)[None].repeat(2, 1, 1, 1, 1)
    moving = torch.from_numpy(item.moving)
    clips[1, 1:, :, moving] = 255 - clips[1, 1:, :, moving]
    row = variety(item, clips)
    assert row['spread_moving'] > 20 and row['spread_still'] == 0 and row['mse'] > 0


def test_obedience(item):
    vectors = np.array([[4., 0], [0, 4.]])
    start = item.pokes[0][0]
    right = torch.stack([RubberRival().poke(item.frames[0], [(start, tuple(np.add(start, v)))]) for v in vectors])
    good, bad = obedience(item, right, vectors), obedience(item, right, vectors[::-1])
    assert good['aligned'] > .8 and good['off'] < 1.5 < bad['off']


def test_keypoint_accuracy_is_that_of_the_protocol(item):
    row = keypoint_accuracy(item, find_paths(item, StillRival().poke(item.frames[0], item.pokes, samples=1)))
    (start, end), = item.pokes
    wanted = poked_errors([[start]], [[end]], [[True]], 64).squared[0]
    assert row['squared'] == pytest.approx(wanted, rel=.3) and row['mse'] == row['squared'] / 2


def test_keypoints_over_time(clip):
    joint = ask_keypoints(clip, POKES['worlds64'], torch_rng(3))
    truth = clip_keypoints(clip)[0][:, list(joint.ids)]
    off = keypoint_curves(joint, np.stack([truth, truth + [6.4, 0]]))
    assert np.allclose(off['nearest'], 0) and np.allclose(off['mean'], .0025) and off['mean'].shape == (16,)


def test_rhythm():
    clips = [torch.from_numpy(render('dancer', s, 8, 32).frames) for s in (0, 1)]
    assert same_rhythm(clips[0], clips[0]) == pytest.approx(1) and same_rhythm(clips[0], clips[1]) < 1


def test_the_published_plan_pulls_over_half_a_circle(item):
    ours, theirs = fan_vectors(item, PRESETS['worlds'], 0), fan_vectors(item, PRESETS['ipoke'], 0)
    assert len(theirs) == 32 and theirs[:, 1].min() > -1e-5 and ours[:, 1].min() < -1 and np.ptp(np.linalg.norm(ours, axis=1)) < 1e-6


def test_neighbours_are_alike():
    dancers = ask_world('dancer', range(4), 4, 32, 1, POKES['tiny'])
    twin = dancers[0]._replace(frames=dancers[0].frames + 1)
    assert neighbour([*dancers, twin], 0) == len(dancers) and neighbour([*dancers, twin], len(dancers)) == 0


def test_noise_belongs_to_the_item(item):
    seeds = []
    class Spy:
        def poke(self, image, pokes, samples, seed, length): seeds.append(seed); return StillRival().poke(image, pokes, samples, seed, length)
    made_clips(Spy(), [item, item], 5, 2, 100)
    assert seeds == [105, 106]


def test_an_evaluation_goes_on(item, tmp_path):
    calls = []
    class Counting(StillRival):
        def poke(self, *more, **options): calls.append(1); return super().poke(*more, **options)
    plan = PlanCfg(4, 2, (1,), batch=2)
    whole = measure_samples(Counting(), [item] * 4, plan, ('reach',), tmp_path)
    assert len(calls) == 4 and len(list(tmp_path.iterdir())) == 2
    next(tmp_path.iterdir()).unlink()
    again = measure_samples(Counting(), [item] * 4, plan, ('reach',), tmp_path)
    assert len(calls) == 6 and all((again[name] == values).all() for name, values in whole.items())
    with pytest.raises(ValueError, match='nothing moves'): measure_samples(StillRival(), [], plan, ('reach',))


def test_a_model_keeps_its_name(tmp_path):
    saved = [fresh_poker('tiny', 'flow_matching').save_pretrained(tmp_path/name) for name in 'ab']
    one, other = (load(folder) for folder in saved)
    assert name_of(one) == name_of(other) == name_of(load(saved[0])) and len(name_of(one)) == 16
    other.model.prior.spread.mul_(2)                       # a buffer, which shapes samples as well
    assert name_of(one) != name_of(other) and name_of(RubberRival()) != name_of(RubberRival(4.))


def test_numbers_count_what_can_be_trusted():
    columns = dict(reach_off=np.array([1., 2., 60.]), reach_asked=np.array([5., 5., 5.]), reach_background=np.array([.1, np.nan, .1]), reach_trusted=np.array([1., 1., 0.]))
    found = mode_numbers(columns, 'reach')
    assert found['off']['mean'] == 1.5 and found['off_of_all']['mean'] == 21 and found['trusted_share'] == pytest.approx(2 / 3)
    assert found['background']['items'] == 1 and interval(np.array([np.nan])) is None


@pytest.mark.parametrize('off, background, verdict', [(2.9, .4, (True, True)), (3.1, .6, (False, False))])
def test_verdicts(off, background, verdict):
    entry = lambda value: dict(mean=value, low=value, high=value)
    result = dict(reach=dict(off=entry(off), asked=entry(9.), background=entry(background)))
    found = poke_verdicts(result, 64)
    assert (found['poked_point_within_3_px'], found['background_below_half_px']) == verdict and found['poked_point_beats_standing_still']
    assert not poke_verdicts(result, 32)['poked_point_within_3_px'] or off < 1.5     # half the pixels, half the bar


def test_videos_of_pokes(item):
    clip = torch.from_numpy(item.frames)
    far = [((20., 20.), (40., 30.)), ((10., 50.), (10., 50.))]
    video = poke_video(clip, far)
    assert len(video) == len(clip) + 12 and (video[8:24] == clip).all() and (video[:4] == clip[0]).all()
    red = (with_arrows(clip[0], far) == torch.tensor([255, 0, 0])[:, None, None]).all(0)
    assert red[20, 20] and red[30, 40] and red[25, 30] and not red[50, 10] and red[47:54, 7:14].sum() > 6      # an arrow, and a ring
    assert side_by_side(torch.stack([clip] * 5)).shape == (16, 3, 128, 192)
