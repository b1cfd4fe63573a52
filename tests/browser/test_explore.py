"nbs/apps/explore.ipynb as a newcomer meets it: `make lab`, a double click, run all cells, play with the panel."
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import pytest

pytestmark = pytest.mark.browser
ROOT = Path(__file__).resolve().parents[2]
TOKEN = 'for-this-test-only'
PATIENCE = int(os.environ.get('CCVS_PATIENCE', 180))    # seconds for one step; a crowded machine needs more

READY = "window.jupyterapp?.shell.currentWidget?.sessionContext?.kernelDisplayStatus === 'idle'"
RUN_ALL = "window.jupyterapp.commands.execute('notebook:run-all-cells')"
OUTPUTS = "window.jupyterapp.shell.currentWidget.content.model.toJSON().cells.flatMap(cell => cell.outputs ?? [])"
PAGES = "[...document.querySelectorAll('.flipbook script[type=\"application/json\"]')].map(script => script.textContent).join()"


def lab_command():
    "What `make lab` runs, without what opens a browser of its own."
    lines = re.sub(r'\\\n\s*', '', (ROOT / 'Makefile').read_text()).splitlines()
    recipe = lines[1 + next(i for i, line in enumerate(lines) if line.startswith('lab:'))]
    words = shlex.split(re.sub(r'\$\(if .*\)', '', recipe))
    assert words[:2] == ['$(BIN)/jupyter', 'lab']
    return [sys.executable, '-m', 'jupyterlab', *words[2:], '--allow-root', '--no-browser', '--LabApp.expose_app_in_browser=True']


def answers(url):
    "Is there a server?"
    try: return build_opener(ProxyHandler({})).open(url, timeout=5).status == 200
    except (URLError, OSError): return False


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    "JupyterLab on a copy of the apps, with settings of its own; its address and the copy's folder."
    folder = tmp_path_factory.mktemp('lab')
    shutil.copytree(ROOT / 'nbs' / 'apps', folder / 'nbs' / 'apps', ignore=shutil.ignore_patterns('out', '.*'))
    own = ('JUPYTER_CONFIG_DIR', 'JUPYTER_DATA_DIR', 'JUPYTER_RUNTIME_DIR', 'JUPYTERLAB_SETTINGS_DIR', 'JUPYTERLAB_WORKSPACES_DIR', 'IPYTHONDIR')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    command = [*lab_command(), f'--ServerApp.port={port}', '--ServerApp.port_retries=0', f'--IdentityProvider.token={TOKEN}']
    env = os.environ | {name: str(folder / 'settings' / name.lower()) for name in own} | dict(PYTHONPATH=str(ROOT))
    with open(folder / 'log.txt', 'w') as log:
        lab = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
        try:
            end, url = time.monotonic() + PATIENCE, f'http://127.0.0.1:{port}'
            while not answers(f'{url}/api/status?token={TOKEN}'):
                assert lab.poll() is None and time.monotonic() < end, (folder / 'log.txt').read_text()
                time.sleep(.2)
            yield url, folder
        finally:
            lab.terminate()     # it ends its kernels first
            lab.wait(PATIENCE)


@pytest.fixture(scope='module')
def lab(browser, server):
    "The notebook, opened from the file browser and run from top to bottom."
    page = browser.new_page()
    page.goto(f'{server[0]}/?token={TOKEN}')     # leads to the page that `make lab` opens
    page.locator('.jp-DirListing-item', has_text='explore.ipynb').dblclick()
    page.wait_for_function(READY)
    page.wait_for_timeout(2000)     # cells that run before the notebook has settled are lost
    page.evaluate(RUN_ALL)
    page.wait_for_function(f'{PAGES}.length > 0')
    page.wait_for_function(READY)
    return page


def pictures(page):
    "Name of each clip of the panel -> its frames."
    names = page.locator('.flipbook figcaption').all_inner_texts()
    return dict(zip(names, json.loads(page.evaluate(PAGES)), strict=True))


def redrawn(page, act):
    "The pictures before and after doing something to the panel."
    before, text = pictures(page), page.evaluate(PAGES)
    act()
    page.locator('.drawing').wait_for()     # the old ones are dimmed
    page.wait_for_function(f'text => {PAGES}.length > 0 && {PAGES} !== text', arg=text)
    page.get_by_text(re.compile(r'futures drawn in \d')).wait_for()
    assert page.locator('.drawing').count() == 0
    return before, pictures(page)


def test_run_all_shows_the_panel_without_an_error(lab, tmp_path):
    lab.screenshot(path=tmp_path / 'page.png')
    outputs = lab.evaluate(OUTPUTS)
    assert outputs and not [output for output in outputs if output['output_type'] == 'error' or output.get('name') == 'stderr']
    assert any('image/jpeg' in output.get('data', {}) for output in outputs)    # the strip of the last cell
    found = pictures(lab)
    assert list(found) == ['what happened', *(f'future {i}' for i in range(1, 5))]
    assert {len(frames) for frames in found.values()} == {20}
    given, *_, last = zip(*found.values())
    assert len(set(given)) == 1 and len(set(last)) == len(found)    # the given frames are everyone's, the last one nobody else's


def test_again_gives_other_futures_of_the_same_beginning(lab):
    before, after = redrawn(lab, lambda: lab.get_by_role('button', name='Again').click())
    assert lab.get_by_label('seed').input_value() == '1'
    assert after['what happened'] == before['what happened']
    assert all(after[name][:4] == before[name][:4] and after[name][4:] != before[name][4:] for name in before if name != 'what happened')


def test_no_label_is_cut(lab):
    labels = lab.locator('.widget-inline-hbox > .widget-label')
    assert {'clip', 'temperature', 'top k', 'seed'} <= set(labels.all_inner_texts())
    assert all(labels.evaluate_all('labels => labels.map(label => label.scrollWidth <= label.clientWidth)'))


def test_save_says_where_the_files_are(lab, server):
    lab.get_by_title('Write what is shown as mp4 files').click()
    said = lab.get_by_text(re.compile('5 clips written to')).inner_text()
    place = said.removeprefix('5 clips written to ')
    assert place.startswith('nbs/apps/out/explore/') and len(list((server[1] / place).glob('*.mp4'))) == 5
