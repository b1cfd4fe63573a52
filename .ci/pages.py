"""Turn what `nbdev_proc_nbs` left in _proc/ (run in its parent) into a folder that mkdocs understands: titles as headings, an own mkdocs.yml."""
import json
import re
from pathlib import Path

PROC, PAGES = Path('_proc'), Path('pages')
CONFIG = """site_name: ccvs
docs_dir: pages
site_dir: ../../_docs
use_directory_urls: false
theme: {name: material, font: false}
plugins: [{mkdocs-jupyter: {include_source: false, execute: false, ignore_h1_titles: true}}]
"""


def with_heading(cell: dict) -> dict:
    "nbdev keeps title and summary as raw front matter; the page wants them as a heading."
    text = ''.join(cell['source'])
    found = re.search(r'^title:\s*(.+)$', text, re.M)
    if cell['cell_type'] != 'raw' or not found:
        return cell
    about = re.search(r'^description:\s*(.+)$', text, re.M)
    lines = [f'# {found[1].strip()}'] + ([f'> {about[1].strip()}'] if about else [])
    return dict(cell_type='markdown', id=cell.get('id', 'title'), metadata={}, source='\n\n'.join(lines))


def without_quarto(cell: dict) -> dict:
    "Links to the source carry an attribute that only Quarto reads."
    cell['source'] = ''.join(cell['source']).replace('{target="_blank" style="float:right; font-size:smaller"}', '')
    for output in cell.get('outputs', []):
        if 'text/markdown' in output.get('data', {}):
            output['data']['text/markdown'] = re.sub(r'\{target=[^}]*\}', '', ''.join(output['data']['text/markdown']))
    return cell


for path in sorted(PROC.rglob('*.ipynb')):
    inside = path.relative_to(PROC)
    if any(part.startswith('.') for part in inside.parts):
        continue
    book = json.loads(path.read_text(encoding='utf-8'))
    book['cells'] = [without_quarto(with_heading(cell)) for cell in book['cells']]
    page = PAGES / inside
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(json.dumps(book), encoding='utf-8')
Path('mkdocs.yml').write_text(CONFIG, encoding='utf-8')
