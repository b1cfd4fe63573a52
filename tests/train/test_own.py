"What is held out of a user's folder is never learnt from, whatever the folder looks like."
import pytest
import torch

from ccvs.data.video import write_video
from ccvs.train.own import LEAST_LEARNT, open_own, plan_cuts


@pytest.mark.parametrize('lengths', [[30] * 12, [30] * 40, [100], [19], [22], [23], [40, 25], [500, 19, 60, 21, 3], [24] * 4, [7], [5, 6, 7], [10_000]])
def test_learnt_and_held_out_frames_never_meet(lengths):
    plan = plan_cuts(lengths, 4, 15, 5, most=7)
    span = 4 + plan.length
    learnt = {(c, t) for c, s in plan.learn for t in range(s, s + plan.learn_length)}
    tested = {(c, t) for c, s in plan.test for t in range(s, s + span)}
    assert not learnt & tested
    assert all(0 <= t < lengths[c] for c, t in learnt | tested)
    assert 1 <= len(plan.test) <= 5 and len(plan.learn) <= 7
    assert len(set(plan.test)) == len(plan.test) and len(set(plan.learn)) == len(plan.learn)
    assert not plan.learn or LEAST_LEARNT <= plan.learn_length <= 20
    assert all(lengths[i] < span for i in plan.short)


def test_many_clips_lose_whole_clips_and_few_lose_their_tails():
    assert {cut.clip for cut in plan_cuts([30] * 10, 4, 15, 9).learn} == {1, 2, 3, 4, 6, 7, 8, 9}
    few = plan_cuts([60], 4, 15, 9)
    assert few.tails and few.test[0].start == 41 and max(cut.start for cut in few.learn) + few.learn_length <= 41
    assert plan_cuts([19], 4, 15, 9).learn == []            # nothing is left to learn from
    assert plan_cuts([10], 4, 15, 9).length == 6            # as far as the clip goes


def test_nothing_to_predict_is_one_sentence():
    with pytest.raises(ValueError, match='needs a clip of 5 or more, the longest here has 4; give longer videos'):
        plan_cuts([4, 2], 4, 15, 9)


def test_odd_sizes_fast_videos_and_broken_files(tmp_path):
    ramp = torch.arange(60, dtype=torch.uint8)[:, None, None, None].expand(60, 3, 50, 38) * 4
    write_video(tmp_path/'fast.mp4', ramp, 30)
    (tmp_path/'broken.mp4').write_text('no video')
    own = open_own(tmp_path, (32, 32), 10, 4, 6, 3)
    assert own.test.shape == (1, 10, 3, 32, 32) and list(own.bad) == ['broken.mp4'] and own.clips == 1
    steps = own.test[0].float().mean((1, 2, 3)).diff()
    assert torch.allclose(steps, torch.full_like(steps, 12), atol=3)    # every third frame; the encoder rounds
    assert own.learn.shape[1:] == (10, 3, 32, 32) and own.plan.tails


def test_a_folder_of_broken_files_says_so(tmp_path):
    (tmp_path/'broken.mp4').write_text('no video')
    with pytest.raises(ValueError, match='holds no video that can be read: 1 were set aside, first broken.mp4'):
        open_own(tmp_path, (32, 32), 10, 4, 6, 3)
    with pytest.raises(FileNotFoundError):
        open_own(tmp_path/'absent', (32, 32), 10, 4, 6, 3)
