"A real browser for the tests in this folder: an installed Chromium, driven by Playwright; where there is none they are skipped and say so."
import os
import shutil

import pytest

PROGRAMS = ('chromium', 'chromium-browser', 'google-chrome')
PATIENCE = int(os.environ.get('CCVS_PATIENCE', 180))    # seconds for one step; a crowded machine needs more
FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
         '--disable-sync', '--mute-audio']


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    "A browser with a fresh profile. It is closed with the module: while it is open, nothing else in this process may run an event loop."
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip('no Chromium here: install one (apt-get install chromium) to run the browser tests')
    playwright = pytest.importorskip('playwright.sync_api', reason='playwright is missing: `make venv` installs it')
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch_persistent_context(tmp_path_factory.mktemp('profile'), executable_path=program, headless=True, args=FLAGS,
                                                           viewport=dict(width=1280, height=900), timeout=PATIENCE * 1000)
        opened.set_default_timeout(PATIENCE * 1000)
        yield opened
        opened.close()


@pytest.fixture
def page(browser, tmp_path):
    "An empty page; `page.said` collects its errors, `page.asked` every address it wanted. A picture of it is left in tmp_path."
    opened = browser.new_page()
    opened.said, opened.asked = [], []
    opened.on('console', lambda message: opened.said.append(message.text) if message.type == 'error' else None)
    opened.on('pageerror', lambda error: opened.said.append(str(error)))
    opened.on('request', lambda request: opened.asked.append(request.url))
    yield opened
    opened.screenshot(path=tmp_path / 'page.png')
    opened.close()
