"Folders of predicted videos: a new run replaces an earlier one, and only what that one wrote."
import torch

from ccvs.synth.results import clear_results, clip_sets, write_results


def test_only_numbered_videos_in_known_folders_are_removed(tmp_path):
    clips = torch.zeros(2, 4, 3, 32, 32, dtype=torch.uint8)
    write_results(tmp_path, clip_sets(clips, clips[:, None, 2:].repeat(1, 3, 1, 1, 1, 1), 2, clips[:, 1:]))
    mine = [tmp_path/'real'/'holiday.mp4', tmp_path/'mine'/'vid_00000.mp4', tmp_path/'fake_x'/'vid_00000.mp4', tmp_path/'vid_00000.mp4']
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text('mine')
    assert clear_results(tmp_path) == 2 * 5
    assert sorted(path for path in tmp_path.rglob('*') if path.is_file()) == sorted(mine)
    assert not (tmp_path/'fake_2').exists()
    assert clear_results(tmp_path/'absent') == 0
