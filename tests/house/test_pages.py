"The web pages: what becomes of the cells of a notebook on the way to Markdown."
import base64
import importlib.util
import json

import yaml

from tests.house import rules

SPEC = importlib.util.spec_from_file_location('pages', rules.ROOT / '.ci' / 'pages.py')
pages = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(pages)


def marked(formula, display): return f'<{display}:{formula}>'


def test_formulas_are_drawn_and_code_is_not():
    text = 'a $x$ and `$y$`\n\n    indented $z$\n\nthen $t$\n\n```\n$ ls $\n```\n\n$$d\n= 1$$'
    found = pages.with_formulas(text, marked)
    assert found == 'a <inline:x> and `$y$`\n\n    indented $z$\n\nthen <inline:t>\n\n```\n$ ls $\n```\n\n<block:d\n= 1>'


def test_what_a_reader_of_pages_sees_of_an_output(tmp_path):
    pictures = pages.Pictures(tmp_path / 'page.md')
    shown = lambda **data: pages.shown(dict(output_type='execute_result', data={kind.replace('_', '/'): view for kind, view in data.items()}), pictures)
    assert shown(image_png=base64.b64encode(b'png').decode(), text_plain='Curve') == '![](page_1.png)'
    assert (tmp_path / 'page_1.png').read_bytes() == b'png'
    assert '\n\n' not in shown(text_html='<div>\n\n<table border="1" class="dataframe"></table></div>')
    assert shown(text_markdown='f(args:VAR_POSITIONAL)->__main__.T') == 'f(*args)->T'
    assert shown(text_plain='3') == '```text\n3\n```' and shown(text_plain='```').startswith('````text')


def test_a_page_has_the_whole_summary_and_no_machinery(tmp_path, monkeypatch):
    about = dict(cell_type='raw', source="---\ndescription: 'Says it: over\n  two lines.'\ntitle: seen\n---\n")
    call = dict(cell_type='code', source='#| echo: false\nshow_doc(f)', outputs=[dict(output_type='execute_result', data={'text/markdown': '### f'})])
    cell = dict(cell_type='code', source='#| slow\nf()', outputs=[])
    (tmp_path / '_proc' / '20_nn').mkdir(parents=True)
    (tmp_path / '_proc' / '20_nn' / '21_seen.ipynb').write_text(json.dumps(dict(cells=[about, call, cell])))
    (tmp_path / '_proc' / 'index.ipynb').write_text(json.dumps(dict(cells=[about])))
    monkeypatch.chdir(tmp_path)
    pages.main()
    assert (tmp_path / 'pages/20_nn/21_seen.md').read_text() == '# seen\n\n> Says it: over two lines.\n\n### f\n\n```python\nf()\n```\n'
    assert yaml.safe_load((tmp_path / 'mkdocs.yml').read_text())['nav'] == [{'seen': 'index.md'}, {'nn': [{'seen': '20_nn/21_seen.md'}]}]
