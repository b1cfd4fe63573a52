"What is held out of a user's folder is never learnt from, whatever the folder looks like."
import pytest
import torch

from ccvs.data.video import write_video
from ccvs.train.own import LEAST_LEARNT, held_out_words, open_own, own_words, plan_cuts


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
    assert own.test.shape == (1, 10, 3, 32, 32) and list(own.bad) == ['broken.mp4'] and own.files == ['fast.mp4']
    steps = own.test[0].float().mean((1, 2, 3)).diff()
    assert torch.allclose(steps, torch.full_like(steps, 12), atol=3)    # every third frame; the encoder rounds
    assert own.learn.shape[1:] == (10, 3, 32, 32) and own.plan.tails


def test_it_is_said_what_became_of_each_video(tmp_path):
    for name, frames, rate in (('long', 90, 30), ('short', 10, 10), ('tiny', 3, 10)):
        write_video(tmp_path/f'{name}.mp4', torch.zeros(frames, 3, 32, 32, dtype=torch.uint8), rate)
    own = open_own(tmp_path, (32, 32), 10, 4, 6, 3)
    start = own.plan.test[0].start
    held = held_out_words(own, True)
    assert held[0] == f'long.mp4: frames 1 to {start} were learnt from; frames {start + 1} to 30 were held out and are predicted here.'
    assert held[1] == 'short.mp4: frames 1 to 10 are predicted here; none of this video was learnt from.'
    assert held[2] == 'Too short for 10 frames and left out: tiny.mp4 (3).'
    assert own.names[:2] == [f'long.mp4, frames {start + 1} to {start + 10}', 'short.mp4, frames 1 to 10']
    assert not any('were learnt from' in sentence for sentence in held_out_words(own, False))
    told = own_words(own, 10)
    assert 'long.mp4 (30)' in told[0] and 'short.mp4' not in told[0]
    assert told[1].startswith('There is little to learn from here (') and 'seconds of video' in told[1]
    assert 'index.parquet in the folder of the videos' in told[-1] and (tmp_path/'index.parquet').is_file()


def test_whole_clips_are_held_out_of_many(tmp_path):
    for i in range(5): write_video(tmp_path/f'{i}.mp4', torch.zeros(12, 3, 32, 32, dtype=torch.uint8), 10)
    own = open_own(tmp_path, (32, 32), 10, 4, 6, 3)
    assert held_out_words(own, True) == ['0.mp4: frames 1 to 10 are predicted here; none of this video was learnt from.',
                                         'Learnt from and not predicted: 1.mp4, 2.mp4, 3.mp4, 4.mp4.']


def test_a_folder_of_broken_files_says_so(tmp_path):
    (tmp_path/'broken.mp4').write_text('no video')
    with pytest.raises(ValueError, match='holds no video that can be read: 1 were set aside, first broken.mp4'):
        open_own(tmp_path, (32, 32), 10, 4, 6, 3)
    with pytest.raises(FileNotFoundError):
        open_own(tmp_path/'absent', (32, 32), 10, 4, 6, 3)
