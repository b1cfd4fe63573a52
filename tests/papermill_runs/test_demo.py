"The notebooks a user runs, from form to report, with a toy model whose weights were never trained."
import json
import re
from dataclasses import replace

import pytest
import torch

from ccvs.codec.frame import PRESETS as CODECS, build_frame_codec
from ccvs.data.video import probe, read_video, write_video
from ccvs.prior.transformer import PRESETS as TRANSFORMERS, build_transformer
from ccvs.runs import RunError, fill_in, find_run, parameters, run_notebook
from ccvs.synth.pipeline import PRESETS, Predictor

SMALL = dict(given=2, length=3, samples=2, batch=2)


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    torch.manual_seed(0)
    toy = Predictor(build_frame_codec(CODECS['tiny']), build_transformer(replace(TRANSFORMERS['tiny'], grid=CODECS['tiny'].grid)), PRESETS['tiny'])
    return str(toy.save_pretrained(tmp_path_factory.mktemp('model')/'toy'))


def run(name, out, **values):
    path = find_run(name)
    run_notebook(path, fill_in(parameters(path), [], SMALL | values | dict(out_dir=str(out))), out)
    return json.loads((out/'record.json').read_text())


def leave_an_earlier_run(out):
    "More clips and futures than the next run will write, and a file that is nobody's."
    for name in ('real/vid_00009.mp4', 'fake/vid_00009.mp4', 'fake_7/vid_00000.mp4', 'rec/vid_00009.mp4', 'real/mine.mp4'):
        (out/name).parent.mkdir(parents=True, exist_ok=True)
        (out/name).write_text('earlier')


def results(out):
    "Folder -> videos in it."
    return {side.name: sorted(path.name for path in side.iterdir()) for side in out.iterdir() if side.name.startswith(('real', 'fake', 'rec')) and side.is_dir()}


def test_demo_on_a_world(model, tmp_path):
    leave_an_earlier_run(tmp_path/'out')
    record = run('demo', tmp_path/'out', model=model, count=3)
    page = (tmp_path/'out'/'report.html').read_text()
    assert page.count('data:video/mp4;base64,') == 3 * 4    # what happened, two futures, decoded from codes
    assert not re.search(r'https?:|<link', re.sub(r'base64,[^"]+', '', page))
    assert len(list((tmp_path/'out'/'data'/'pusher-32-5'/'clips').glob('*.mp4'))) == 3
    assert probe(tmp_path/'out'/'fake_1'/'vid_00002.mp4').frames == 5
    assert (tmp_path/'out'/'strip.png').is_file()
    videos = [f'vid_{i:05d}.mp4' for i in range(3)]
    assert results(tmp_path/'out') == dict(real=['mine.mp4', *videos], fake=videos, fake_1=videos, rec=videos)
    numbers = record['numbers']
    assert numbers['clips'] == 3 and len(numbers['curves']['mean_psnr']['mean']) == 3 and 'reconstruction_28_dB' in numbers['verdicts']
    assert 'the futures in fake, fake_1,' in page and 'Shown here: 3 clips, and 2 futures of each' in page and '`' not in re.sub(r'(?s)<script>.*', '', page)
    assert 'fine_tuning' not in numbers and 'fine-tuned' not in page


def test_demo_on_own_videos(model, tmp_path, capsys):
    (tmp_path/'own').mkdir()
    noise = torch.Generator().manual_seed(0)
    for i in range(2):
        write_video(tmp_path/'own'/f'{i}.mp4', torch.randint(0, 256, (14, 3, 40, 34), dtype=torch.uint8, generator=noise), 10)
    (tmp_path/'own'/'broken<b>.mp4').write_text('no video')
    record = run('demo', tmp_path/'out', model=model, clips=str(tmp_path/'own'), count=2, steps=2)
    page = (tmp_path/'out'/'report.html').read_text()
    assert record['numbers']['fine_tuning']['steps_codec'] == record['numbers']['fine_tuning']['steps_transformer'] == 2
    said = capsys.readouterr().out
    assert 'set aside: broken<b>.mp4: ' in said and 'looking at every file' in said and 'were held out and are predicted here' in said
    assert said.index('decoding 2 held-out windows') < said.index('predicting 2 futures of each')
    assert '2 videos of yours could be read' in page and 'There is little to learn from here' in page
    mean, copy = (record['numbers']['curves'][name]['overall']['mean'] for name in ('mean_psnr', 'copy_psnr'))
    assert ('Do not expect these predictions to be right' in page) == (mean <= copy) != ('comes closer to what happened' in page)
    assert 'fine-tuned on your videos: 2 steps' in page and 'broken&lt;b&gt;.mp4' in page and '<b>' not in page
    assert (tmp_path/'out'/'model'/'config.json').is_file()


def test_demo_on_a_folder_without_a_video_is_one_sentence(model, tmp_path):
    (tmp_path/'own').mkdir()
    (tmp_path/'own'/'broken.mp4').write_text('no video')
    with pytest.raises(RunError, match='holds no video that can be read: 1 were set aside'):
        run('demo', tmp_path/'out', model=model, clips=str(tmp_path/'own'))


def test_synthesize_writes_paired_folders(model, tmp_path):
    leave_an_earlier_run(tmp_path/'out')
    (tmp_path/'out'/'real'/'mine.mp4').unlink()
    record = run('synthesize', tmp_path/'out', model=model, clips=3)
    assert record['numbers']['folders'] == ['real', 'fake', 'fake_1', 'rec']
    for folder in record['numbers']['folders']:
        assert [path.name for path in sorted((tmp_path/'out'/folder).iterdir())] == [f'vid_{i:05d}.mp4' for i in range(3)]
        assert read_video(tmp_path/'out'/folder/'vid_00002.mp4').shape == (5, 3, 32, 32)
    assert set(results(tmp_path/'out')) == set(record['numbers']['folders'])


def test_evaluate_goes_on_where_it_was(model, tmp_path, capsys):
    whole = run('evaluate', tmp_path/'whole', model=model, clips=4, shown=1, protocol='none')
    said = capsys.readouterr().out
    assert 'The arm of the pusher, in the first future of 1 clip' in said and 'of the pusher' in (tmp_path/'whole'/'report.html').read_text()
    assert said.index('predicting 2 futures of each') < said.index('for the report') and ' dB against ' in said
    done = sorted((tmp_path/'whole'/'batches').iterdir())
    assert len(done) == 2
    part = tmp_path/'part'/'batches'
    part.mkdir(parents=True)
    (part/done[0].name).write_bytes(done[0].read_bytes())
    resumed = run('evaluate', tmp_path/'part', model=model, clips=4, shown=1, protocol='none')
    assert {path.name for path in part.iterdir()} == {path.name for path in done}
    for record in (whole, resumed): del record['numbers']['seconds']
    assert resumed['numbers'] == whole['numbers']


def test_evaluate_refuses_a_protocol_for_longer_clips_at_once(model, tmp_path):
    with pytest.raises(RunError, match='compares clips of 16 frames, and 2 given and 3 new ones make 5; set protocol=none'):
        run('evaluate', tmp_path/'out', model=model, clips=4)
    assert not (tmp_path/'out'/'batches').exists()
