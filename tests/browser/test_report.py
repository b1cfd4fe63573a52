"The demo's report as its reader meets it: one file, opened from the disk, in which everything plays."
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ccvs.codec.frame import PRESETS as CODECS, build_frame_codec
from ccvs.prior.transformer import PRESETS as TRANSFORMERS, build_transformer
from ccvs.synth.pipeline import PRESETS, Predictor

pytestmark = pytest.mark.browser
GIVEN, LENGTH, SAMPLES, COUNT = 2, 3, 2, 2
PATIENCE = int(os.environ.get('CCVS_PATIENCE', 180))    # seconds for one step; a crowded machine needs more

# Scroll a group into sight and wait until each of its videos has shown two different moments.
WATCH = '''async group => {
  group.scrollIntoView({block: 'center'});
  const videos = [...group.querySelectorAll('video')], seen = videos.map(() => new Set());
  for (const end = performance.now() + 15000; performance.now() < end && !seen.every(times => times.size > 1);) {
    videos.forEach((video, i) => video.readyState >= 2 && seen[i].add(video.currentTime));
    await new Promise(resolve => setTimeout(resolve, 20));
  }
  return videos.map((video, i) => ({moments: seen[i].size, width: video.videoWidth, height: video.videoHeight, error: video.error?.message}));
}'''

# The colour of the border at a moment of the first video.
BORDER = '''async ([group, time]) => {
  const video = group.querySelector('video'), canvas = document.createElement('canvas');
  do {
    video.pause();
    video.currentTime = time;
    await new Promise(resolve => setTimeout(resolve, 100));
  } while (video.seeking || Math.abs(video.currentTime - time) > .01);
  const pen = canvas.getContext('2d');
  pen.drawImage(video, 0, 0);
  return [...pen.getImageData(2, 60, 1, 1).data].slice(0, 3);
}'''


@pytest.fixture(scope='module')
def report(tmp_path_factory):
    "What `ccvs demo` leaves with a toy model whose weights were never trained."
    folder = tmp_path_factory.mktemp('demo')
    torch.manual_seed(0)
    toy = Predictor(build_frame_codec(CODECS['tiny']), build_transformer(replace(TRANSFORMERS['tiny'], grid=CODECS['tiny'].grid)), PRESETS['tiny'])
    values = dict(model=toy.save_pretrained(folder / 'toy'), given=GIVEN, length=LENGTH, samples=SAMPLES, count=COUNT, batch=COUNT)
    changes = [word for name, value in values.items() for word in ('--set', f'{name}={value}')]
    program = [sys.executable, '-c', 'from ccvs.cli import main; main()', 'demo', '--out', str(folder / 'out'), *changes]
    subprocess.run(program, check=True, capture_output=True, timeout=PATIENCE)
    return folder / 'out' / 'report.html'


@pytest.fixture
def opened(browser, report, page):
    page.goto(report.as_uri())
    return page


def test_every_video_plays_and_nothing_is_missing(opened, report, tmp_path):
    groups = opened.query_selector_all('.group')
    assert len(groups) == COUNT
    for group in groups:
        videos = group.evaluate(WATCH)
        assert len(videos) == 2 + SAMPLES       # what happened, the futures, what the codes can say
        for video in videos:
            assert video['moments'] > 1 and not video['error'], video
            assert video['width'] == video['height'] >= 192
    opened.screenshot(path=tmp_path / 'whole.png', full_page=True)
    assert opened.said == []
    assert all(address == report.as_uri() or address.startswith(('data:', 'blob:')) for address in opened.asked)
    numbers = json.loads((report.parent / 'record.json').read_text())['numbers']
    assert f'{numbers["curves"]["mean_psnr"]["overall"]["mean"]:.2f}' in opened.inner_text('table')


def test_the_border_is_amber_until_the_given_frames_are_over(opened):
    group = opened.query_selector('.group')
    colours = [opened.evaluate(BORDER, [group, (frame + .5) / 10]) for frame in (0, GIVEN + LENGTH - 1)]
    for found, wanted in zip(colours, [(245, 158, 11), (90, 98, 112)]):
        assert max(abs(a - b) for a, b in zip(found, wanted)) < 30, found     # lossy colours, far closer than to one another


# For some seconds, the moments of a row's videos.
MOMENTS = '''async group => {
  group.scrollIntoView({block: 'center'});
  const videos = [...group.querySelectorAll('video')], rows = [];
  for (const end = performance.now() + 6000; performance.now() < end;) {
    rows.push(videos.map(v => v.currentTime));
    await new Promise(resolve => setTimeout(resolve, 50));
  }
  return rows;
}'''


def test_the_videos_of_a_row_start_together_again_and_again(opened):
    rows = opened.query_selector('.group').evaluate(MOMENTS)
    begun = [sum(now < before for before, now in zip(times, times[1:])) for times in zip(*rows)]
    assert min(begun) >= 2 and max(begun) - min(begun) <= 1, begun        # all of them began again, as often as one another
    assert sum(max(row) - min(row) <= .15 for row in rows) > .8 * len(rows)


def test_controls_are_there_for_whoever_points_at_a_video(opened):
    video = opened.locator('.group video').first
    assert not video.evaluate('video => video.controls')
    video.hover()
    assert video.evaluate('video => video.controls')
    opened.mouse.move(1, 1)
    assert not video.evaluate('video => video.controls')


def test_a_wide_table_scrolls_in_sight_on_a_phone(opened, tmp_path):
    opened.set_viewport_size(dict(width=420, height=800))
    box = opened.locator('.wide')
    assert box.evaluate('box => box.scrollWidth > box.clientWidth')
    assert box.locator('caption span').evaluate('text => text.getBoundingClientRect().right') <= 420
    edges = []
    for place in (0, 10_000):
        box.evaluate('(box, place) => { box.scrollLeft = place; }', place)
        box.screenshot(path=tmp_path / 'table.png')
        edges.append(np.asarray(Image.open(tmp_path / 'table.png').convert('L'), float)[:, -3:].mean())
    assert edges[0] < edges[1] - 10, edges      # a shade where there is more, none where there is not


@pytest.mark.parametrize('width', [360, 1280])
def test_nothing_sticks_out_on_a_phone_or_a_desk(opened, width, tmp_path):
    opened.set_viewport_size(dict(width=width, height=800))
    assert opened.evaluate('document.documentElement.scrollWidth') <= width
    opened.screenshot(path=tmp_path / 'whole.png', full_page=True)
