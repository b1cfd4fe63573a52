"""Turn what nbdev's `proc_nbs` left in _proc/ (run in its parent) into pages of Markdown that MkDocs understands, and write an mkdocs.yml.

Nothing on the pages comes from elsewhere: pictures lie beside them, formulas are MathML, which browsers draw themselves.
"""
import base64
import html
import json
import re
from collections.abc import Callable
from pathlib import Path

import yaml

PROC, PAGES = Path('_proc'), Path('pages')
STYLE = """.md-grid { max-width: 90rem; }
.md-typeset pre > code { font-size: .65rem; }
.md-typeset .language-text code { background: none; border-left: .15rem solid var(--md-default-fg-color--lightest); }
.md-typeset table:not([class]) th, .md-typeset table:not([class]) td { min-width: 0; padding: .3em .8em; }
math[display=block] { margin: 1em 0; overflow-x: auto; }
"""
EXTENSIONS = ['tables', 'admonition', 'pymdownx.superfences', {'pymdownx.highlight': {'pygments_lang_class': True}}]
ENDINGS = {'image/png': 'png', 'image/jpeg': 'jpg', 'image/svg+xml': 'svg'}


def front_matter(cells: list) -> dict:
    "Title and description, which nbdev keeps in a raw cell."
    for cell in cells:
        if cell['cell_type'] == 'raw' and (found := re.match(r'---\n(.*?)\n---', ''.join(cell['source']), re.S)):
            return yaml.safe_load(found[1])
    return {}


def mathml(formula: str, display: str) -> str:
    "A formula as browsers draw it, 'inline' or as a 'block'."
    from latex2mathml.converter import convert              # only the pages need it
    formula = re.sub(r'\\[lr]Vert\b ?', r'\\| ', formula)     # those bars grow and sink
    return f'<span>{convert(formula, display=display)}</span>'   # a bare <math> at the beginning of a line would end the paragraph


def with_formulas(text: str, draw: Callable[[str, str], str] = mathml) -> str:
    "Markdown whose $formulas$ are drawn; code is left alone."
    code = re.compile(r'(```.*?```|`[^`\n]+`|(?:^ {4}[^\n]*\n?)+)', re.S | re.M)
    parts = code.split(text)
    parts[::2] = [re.sub(r'\$\$(.+?)\$\$|\$([^$\n]+?)\$', lambda found: draw(found[1] or found[2], 'block' if found[1] else 'inline'), part, flags=re.S)
                  for part in parts[::2]]
    return ''.join(parts)


def plain_signature(text: str) -> str:
    "What nbdev says of a signature, in Python's words."
    text = re.sub(r'(\w+):VAR_POSITIONAL', r'*\1', text)
    return re.sub(r'(\w+):VAR_KEYWORD', r'**\1', text).replace('__main__.', '')


def fenced(text: str, language: str) -> str:
    ticks = '`' * max(3, 1 + max(map(len, re.findall(r'`+', text)), default=0))
    return f'{ticks}{language}\n{text.rstrip()}\n{ticks}'


class Pictures:
    "Files beside a page, in the order they are met."
    def __init__(self, page: Path): self.page, self.count = page, 0

    def add(self, kind: str, data: str) -> str:
        "Write a picture; the Markdown that shows it."
        self.count += 1
        path = self.page.with_name(f'{self.page.stem}_{self.count}.{ENDINGS[kind]}')
        path.write_bytes(data.encode() if kind == 'image/svg+xml' else base64.b64decode(data))
        return f'![]({path.name})'


def shown(output: dict, pictures: Pictures) -> str:
    "An output as Markdown: the richest view of it that needs no notebook."
    if output['output_type'] == 'stream': return fenced(''.join(output['text']), 'text')
    views = {kind: view if isinstance(view, str) else ''.join(view) for kind, view in output.get('data', {}).items() if not kind.endswith('json')}
    for kind in ENDINGS:
        if kind in views: return pictures.add(kind, views[kind])
    if 'text/markdown' in views: return plain_signature(re.sub(r'\{target=[^}]*\}', '', views['text/markdown']))
    if 'text/html' in views:
        plain = re.sub(r'<style scoped>.*?</style>', '', views['text/html'], flags=re.S).replace('<table border="1" class="dataframe">', '<table>')
        return '<div>\n' + re.sub(r'\n\s*\n', '\n', plain) + '\n</div>'
    return fenced(views['text/plain'], 'text') if 'text/plain' in views else ''


def as_markdown(cell: dict, pictures: Pictures) -> list[str]:
    "Blocks of Markdown of one cell."
    text = ''.join(cell['source'])
    if cell['cell_type'] == 'markdown': return [] if text.startswith('<!-- WARNING') else [with_formulas(text)]
    if cell['cell_type'] != 'code': return []
    code = re.sub(r'^#\|.*\n?', '', text, flags=re.M).strip()
    blocks = [] if '#| echo: false' in text or not code else [fenced(code, 'python')]
    return blocks + [block for output in cell['outputs'] if (block := shown(output, pictures))]


def write_page(path: Path) -> str:
    "One notebook; the title of its page."
    book, page = json.loads(path.read_text(encoding='utf-8')), PAGES / path.relative_to(PROC).with_suffix('.md')
    page.parent.mkdir(parents=True, exist_ok=True)
    about, pictures = front_matter(book['cells']), Pictures(page)
    blocks = [f'# {about["title"]}', *([f'> {html.escape(about["description"], quote=False)}'] if about.get('description') else [])]
    for cell in book['cells']: blocks += as_markdown(cell, pictures)
    page.write_text('\n\n'.join(blocks) + '\n', encoding='utf-8')
    return about['title']


def contents(folder: Path) -> list:
    "The pages of a folder and of the folders in it, in reading order and without the numbers of their files."
    entries = []
    for path in sorted(folder.iterdir(), key=lambda path: (path.stem != 'index', path.stem == 'apps', path.stem)):
        if path.name.startswith('.'): continue
        if path.is_dir():
            if inside := contents(path): entries.append({re.sub(r'^\d+_', '', path.name): inside})
        elif path.suffix == '.ipynb': entries.append({write_page(path): path.relative_to(PROC).with_suffix('.md').as_posix()})
    return entries


def main() -> None:
    "Write all pages and what MkDocs has to know."
    nav = contents(PROC)
    (PAGES / 'style.css').write_text(STYLE, encoding='utf-8')
    config = dict(site_name='ccvs', docs_dir='pages', site_dir='../../_docs', use_directory_urls=False, theme=dict(name='material', font=False),
                  extra_css=['style.css'], markdown_extensions=EXTENSIONS, nav=nav)
    Path('mkdocs.yml').write_text(yaml.safe_dump(config, sort_keys=False), encoding='utf-8')


if __name__ == '__main__': main()
