"""The rules of the house. Each takes the root of a checkout and returns one sentence per breach; none means all is well."""
import ast
import builtins
import json
import re
from pathlib import Path
from typing import Iterator, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ('nbs', 'papermill_runs', 'data_prep')
SKIP = ('out', 'runs')
MAX_KB, MAX_CELLS, MAX_MODULE_LINES, MAX_CELL_LINES = 400, 60, 350, 40


class Notebook(NamedTuple):
    path: Path      # relative to the root
    size: int       # bytes
    cells: list

    @property
    def module(self) -> str | None:
        "The dotted name it exports, such as ccvs.data.video, or None."
        for cell in self.code_cells:
            if found := re.search(r'^#\|\s*default_exp\s+(\S+)', source(cell), re.M):
                return re.sub(r'\.__init__$', '', f'ccvs.{found[1]}')
        return None

    @property
    def code_cells(self) -> list:
        return [cell for cell in self.cells if cell['cell_type'] == 'code']

    @property
    def exported(self) -> bool:
        return bool(re.match(r'\d', self.path.name)) and self.path.parts[0] == 'nbs'


def source(cell: dict) -> str:
    return ''.join(cell['source'])


def notebooks(root: Path) -> list[Notebook]:
    "Every committed notebook, in reading order."
    found = []
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob('*.ipynb')):
            inside = path.relative_to(root)
            if not any(part.startswith(('.', '_')) or part in SKIP for part in inside.parts):
                found.append(Notebook(inside, path.stat().st_size, json.loads(path.read_text(encoding='utf-8'))['cells']))
    return found


def modules(root: Path) -> list[Path]:
    return [path.relative_to(root) for path in sorted((root / 'ccvs').rglob('*.py')) if path.name != '_modidx.py']


def tree(text: str) -> ast.Module:
    "Parsed code; lines for the notebook (%magic, !shell) become `pass`."
    plain = re.sub(r'^(\s*)[%!].*$', r'\1pass', text, flags=re.M)
    return compile(plain, 'cell', 'exec', ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def nodes(root: Path) -> Iterator[tuple[str, ast.AST]]:
    "Every syntax node of every notebook, with where it is."
    for book in notebooks(root):
        for number, cell in enumerate(book.cells):
            if cell['cell_type'] == 'code' and not source(cell).startswith('%%'):
                for node in ast.walk(tree(source(cell))):
                    yield f'{book.path.as_posix()} cell {number}', node


def dotted(node: ast.AST) -> str:
    "The name a call or attribute spells: `torch.load`, `eval`; unknown parts become ?."
    if isinstance(node, ast.Name):
        return node.id
    return f'{dotted(node.value)}.{node.attr}' if isinstance(node, ast.Attribute) else '?'


def import_names(node: ast.AST) -> list[str]:
    "Dotted names an absolute import statement may load, the most specific reading of each."
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [f'{node.module}.{alias.name}' for alias in node.names]
    return []


def titles(root: Path) -> list[str]:
    "Every notebook opens with `# title` and a `> summary` line."
    return [f'{book.path}: must open with a markdown cell holding "# title" and then "> summary"' for book in notebooks(root)
            if not book.cells or book.cells[0]['cell_type'] != 'markdown'
            or not re.match(r'# \S.*\n\s*> \S', source(book.cells[0]))]


def numbering(root: Path) -> list[str]:
    """A room's notebooks share its tens digit and are not below its number (room 75: 75-79; room 20: 20-29); in a folder
    inside a room they are its number and one more digit (14_worlds: 140-149); next to the rooms, any two digits."""
    wrong = []
    for book in notebooks(root):
        if book.path.parts[0] != 'nbs' or book.path.parts[1] in ('index.ipynb', 'apps'):
            continue
        numbers = [(re.match(r'(\d+)_[a-z][a-z0-9_]*(\.ipynb)?$', part) or ['', ''])[1] for part in book.path.parts[1:]]
        room, file = numbers[0], numbers[-1]
        if len(numbers) == 1:
            fits = len(file) == 2
        elif len(numbers) == 2:
            fits = len(room) == 2 == len(file) and file[0] == room[0] and file >= room
        else:
            fits = len(numbers) == 3 and numbers[1][:1] == room[:1] and numbers[1] >= room and len(numbers[1]) == 2 \
                and len(file) == 3 and file.startswith(numbers[1])
        if not fits:
            wrong.append(f'{book.path}: its number does not belong to its room')
    seen = {}
    for book in notebooks(root):
        if book.exported:
            key = (book.path.parent, re.match(r'\d+', book.path.name)[0])
            wrong += [f'{book.path}: has the same number as {seen[key]}'] if key in seen else []
            seen[key] = book.path.name
    return wrong


def module_names(root: Path) -> list[str]:
    "`default_exp` is the path with the numbers stripped; NN_init is the room's __init__, NN_main its __main__."
    wrong = []
    for book in notebooks(root):
        if not book.exported:
            wrong += [f'{book.path}: exports {book.module}, but only numbered notebooks export'] if book.module else []
            continue
        parts = [re.sub(r'^\d+_', '', part) for part in book.path.with_suffix('').parts[1:]]
        if parts[-1] == 'main': parts[-1] = '__main__'
        name = '.'.join(['ccvs', *(parts[:-1] if parts[-1] == 'init' else parts)])
        wrong += [f'{book.path}: exports {book.module}, should be {name}'] if book.module != name else []
    return wrong


def modules_have_notebooks(root: Path) -> list[str]:
    "Each module names the notebook that makes it, that notebook exists, and every exporting notebook has its module."
    by_module = {book.module: book.path for book in notebooks(root) if book.module}
    wrong, seen = [], set()
    for path in modules(root):
        text, name = (root / path).read_text(encoding='utf-8'), '.'.join(path.with_suffix('').parts).removesuffix('.__init__')
        seen.add(name)
        if path.name == '__init__.py' and name not in by_module:
            wrong += [] if re.fullmatch(r'\s*(__version__ = "[^"]+")?\s*', text) else [f'{path}: has code but no notebook']
        elif name not in by_module:
            wrong.append(f'{path}: no notebook exports it')
        elif f'File to edit: {"../" * (len(path.parts) - 1)}{by_module[name].as_posix()}' not in text:
            wrong.append(f'{path}: was not exported from {by_module[name]}')
    return wrong + [f'{book}: {name} was never exported' for name, book in by_module.items() if name not in seen]


LATE = {('nbs/70_synth/78_load.ipynb', 'ccvs.compat.official')}  # `load` hands folders in foreign formats up, by name, when one turns up


def late_imports(node: ast.AST) -> list[str]:
    "Modules that a call of import_module names."
    if not isinstance(node, ast.Call) or not dotted(node.func).endswith('import_module'):
        return []
    return [getattr(word, 'value', '?') for word in node.args[:1]]


def import_order(root: Path) -> list[str]:
    "A notebook imports only what notebooks before it export (which also rules out cycles); `LATE` lists the exceptions."
    books = notebooks(root)
    place = {book.module: number for number, book in enumerate(books) if book.module}
    packages = {parent for name in place for parent in parents(name)} | {'ccvs'}
    wrong = []
    for number, book in enumerate(books):
        names = {name for cell in book.code_cells if not source(cell).startswith('%%')
                 for node in ast.walk(tree(source(cell))) for name in import_names(node) + late_imports(node)}
        for name in sorted(names):
            if name.split('.')[0] != 'ccvs' or (book.path.as_posix(), name) in LATE:
                continue
            module = next((part for part in [name, *parents(name)] if part in place), None)
            if module is None and name not in packages and parents(name)[0] not in ('ccvs',):
                wrong.append(f'{book.path}: imports {name}, which no notebook exports')
            elif module and place[module] > number and book.exported:
                wrong.append(f'{book.path}: imports {module}, which comes later ({books[place[module]].path})')
    return wrong


def parents(name: str) -> list[str]:
    "`a.b.c` -> [`a.b`, `a`]"
    parts = name.split('.')
    return ['.'.join(parts[:n]) for n in range(len(parts) - 1, 0, -1)]


def no_import_cycle(root: Path) -> list[str]:
    "The modules as Python sees them, relative imports and all, form no circle."
    edges, names = {}, {'.'.join(path.with_suffix('').parts).removesuffix('.__init__') for path in modules(root)}
    for path in modules(root):
        name = '.'.join(path.with_suffix('').parts).removesuffix('.__init__')
        package = name if path.name == '__init__.py' else parents(name)[0]
        found = set()
        for node in ast.walk(ast.parse((root / path).read_text(encoding='utf-8'))):
            for full in import_names(node) + relative_names(node, package):
                found.add(next((part for part in [full, *parents(full)] if part in names), None))
        edges[name] = found - {None, name, 'ccvs'}
    done: set[str] = set()

    def circle(name: str, trail: tuple[str, ...]) -> str | None:
        if name in trail:
            return ' -> '.join([*trail[trail.index(name):], name])
        if name in done:
            return None
        found = next(filter(None, (circle(other, (*trail, name)) for other in sorted(edges[name]))), None)
        done.add(name)
        return found

    return [f'import cycle: {found}' for name in sorted(edges) if (found := circle(name, ()))]


def relative_names(node: ast.AST, package: str) -> list[str]:
    if not isinstance(node, ast.ImportFrom) or not node.level:
        return []
    base = ([package, *parents(package)][node.level - 1:] or ['?'])[0]
    return ['.'.join(filter(None, [base, node.module, alias.name])) for alias in node.names]


def no_absolute_paths(root: Path) -> list[str]:
    "Neither sources nor what they printed say where somebody's disk has what."
    pattern = re.compile(r'(?<![\w+/=.:])/(home|work|tmp|root|Users)/|(?<!\w)[CD]:\\(?!n)')
    wrong = []
    for book in notebooks(root):
        for number, cell in enumerate(book.cells):
            texts = [source(cell), *(text for output in cell.get('outputs', []) for text in output_texts(output))]
            wrong += [f'{book.path} cell {number}: absolute path {found[0]}' for text in texts if (found := pattern.search(text))]
    for path in [*modules(root), *(path.relative_to(root) for path in (root / 'tests').rglob('*.py'))]:
        if found := pattern.search((root / path).read_text(encoding='utf-8')):
            wrong.append(f'{path}: absolute path {found[0]}')
    return wrong


def output_texts(output: dict) -> list[str]:
    "What an output says in words: streams, errors, and text or HTML views."
    rich = output.get('data', {})
    views = [output.get('text', ''), output.get('traceback', []), rich.get('text/plain', ''), rich.get('text/html', '')]
    return [view if isinstance(view, str) else ''.join(view) for view in views]


def no_foreign_code(root: Path) -> list[str]:
    "Nothing here runs what a file says: no pickle, eval, exec, shell, yaml.load; torch.load spells out weights_only=True."
    wrong = []
    for where, node in nodes(root):
        names = import_names(node)
        compat = where.startswith('nbs/90_compat')
        if not compat and any(name.split('.')[0] in ('pickle', 'cPickle', 'dill', 'cloudpickle', 'marshal', 'shelve') for name in names):
            wrong.append(f'{where}: imports {names[0]}')
        if not isinstance(node, ast.Call):
            continue
        name, given = dotted(node.func), {word.arg: getattr(word.value, 'value', None) for word in node.keywords}
        if name in ('eval', 'exec', 'yaml.load', 'yaml.unsafe_load', 'os.system', 'pd.read_pickle', 'pandas.read_pickle'):
            wrong.append(f'{where}: calls {name}')
        if name == 'torch.load' and given.get('weights_only') is not True:
            wrong.append(f'{where}: torch.load without weights_only=True')
        if given.get('allow_pickle') or given.get('shell'):
            wrong.append(f'{where}: {name}(allow_pickle or shell = True)')
    return wrong


def no_device_literals(root: Path) -> list[str]:
    "Outside core a device comes from a tensor at hand or an argument, never from a name written down."
    wrong = []
    for where, node in nodes(root):
        if where.startswith('nbs/00_core'):
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r'cuda(:\d*)?', node.value):
            wrong.append(f'{where}: the device name {node.value!r} is written down')
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == 'cuda':
            wrong.append(f'{where}: calls .cuda()')
    return wrong


def matplotlib_has_one_home(root: Path) -> list[str]:
    return [f'{where}: imports matplotlib, which only core.show may' for where, node in nodes(root)
            if any(name.split('.')[0] == 'matplotlib' for name in import_names(node)) and not re.match(r'nbs/00_core/\d+_show\.', where)]


def no_star_imports(root: Path) -> list[str]:
    return [f'{where}: star import' for where, node in nodes(root) if any(name.endswith('.*') for name in import_names(node))]


def no_quoted_types(root: Path) -> list[str]:
    "The pages evaluate the types of a public function where a quoted name may not exist yet: `make docs` would fail."
    wrong = []
    for path in modules(root):
        for node in ast.parse((root / path).read_text(encoding='utf-8')).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith('_'):
                types = [arg.annotation for arg in (*node.args.args, *node.args.kwonlyargs)] + [node.returns]
                wrong += [f'{path}: {node.name} has the quoted type {kind.value!r}' for kind in types
                          if isinstance(kind, ast.Constant) and isinstance(kind.value, str)]
    return wrong


def bound(node: ast.AST) -> set[str]:
    "Names that a statement of a module binds there."
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    names = {alias.asname or alias.name.split('.')[0] for part in ast.walk(node) if isinstance(part, (ast.Import, ast.ImportFrom)) for alias in part.names}
    return names | {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}


def imports_stand_alone(root: Path) -> list[str]:
    "The pages run exported cells and cells that import, nothing else: such a cell needs no other cell, or `make docs` fails."
    wrong = []
    for book in notebooks(root):
        known = {*dir(builtins), 'show_doc', '__file__'}
        for number, cell in enumerate(book.cells):
            if cell['cell_type'] != 'code' or source(cell).startswith('%%'):
                continue
            code, exports = tree(source(cell)), re.match(r'#\|\s*export\b', source(cell))
            if not exports and not any(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.walk(code)):
                continue
            own = known | {name for node in code.body for name in bound(node)}
            needed = {part.id for part in ast.walk(code) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)}
            inner = {part.arg for part in ast.walk(code) if isinstance(part, ast.arg)} | {name for part in ast.walk(code) for name in bound(part)}
            if book.exported and not exports and (lacks := sorted(needed - own - inner)):
                wrong.append(f'{book.path} cell {number}: imports, but also needs {lacks[0]}, which the pages do not run: import in a cell before')
            known = own
    return wrong


def sizes(root: Path) -> list[str]:
    "Too long means two ideas."
    wrong = []
    for book in notebooks(root):
        wrong += [f'{book.path}: {book.size / 1024:.0f} KB, at most {MAX_KB}'] if book.size > MAX_KB * 1024 else []
        wrong += [f'{book.path}: {len(book.cells)} cells, at most {MAX_CELLS}'] if len(book.cells) > MAX_CELLS else []
        for number, cell in enumerate(book.code_cells):
            lines = source(cell).strip().count('\n') + 1
            if re.match(r'#\|\s*export\b', source(cell)) and lines > MAX_CELL_LINES + 1:
                wrong.append(f'{book.path} code cell {number}: an export cell of {lines} lines, at most {MAX_CELL_LINES}')
    for path in modules(root):
        lines = (root / path).read_text(encoding='utf-8').count('\n')
        wrong += [f'{path}: {lines} lines, at most {MAX_MODULE_LINES}'] if lines > MAX_MODULE_LINES else []
    return wrong


def runs_are_blank(root: Path) -> list[str]:
    "papermill_runs and data_prep are forms to fill in: no outputs, and in papermill_runs one cell tagged `parameters`."
    wrong = []
    for book in notebooks(root):
        if book.path.parts[0] == 'nbs':
            continue
        if any(cell.get('outputs') or cell.get('execution_count') for cell in book.code_cells):
            wrong.append(f'{book.path}: has outputs; empty it with jupyter nbconvert --clear-output --inplace')
        tagged = sum('parameters' in cell['metadata'].get('tags', []) for cell in book.code_cells)
        if book.path.parts[0] == 'papermill_runs' and tagged != 1:
            wrong.append(f'{book.path}: {tagged} cells tagged `parameters`, expected one')
    return wrong


def no_progress_debris(root: Path) -> list[str]:
    "No saved widget state and no tracebacks in what readers see."
    wrong = []
    for book in notebooks(root):
        if '"application/vnd.jupyter.widget-state+json"' in (root / book.path).read_text(encoding='utf-8'):
            wrong.append(f'{book.path}: saved widget state; take "widgets" out of its metadata')
        for number, cell in enumerate(book.code_cells):
            for output in cell.get('outputs', []):
                if output.get('output_type') == 'error':
                    wrong.append(f'{book.path} code cell {number}: a saved error ({output.get("ename")})')
                if 'application/vnd.jupyter.widget-view+json' in output.get('data', {}) and 'apps' not in book.path.parts:
                    wrong.append(f'{book.path} code cell {number}: a saved widget view')
    return wrong


def readme(root: Path) -> str:
    "README.md as `make readme` writes it."
    from nbconvert import MarkdownExporter
    return MarkdownExporter().from_filename(str(root / 'nbs' / 'index.ipynb'))[0]


def readme_agrees(root: Path) -> list[str]:
    path = root / 'README.md'
    found = path.read_text(encoding='utf-8') if path.exists() else ''
    return [] if found == readme(root) else ['README.md differs from nbs/index.ipynb: run `make readme`']


RULES = (titles, numbering, module_names, modules_have_notebooks, import_order, no_import_cycle, no_absolute_paths, no_foreign_code,
         no_device_literals, matplotlib_has_one_home, no_star_imports, no_quoted_types, imports_stand_alone, sizes, runs_are_blank, no_progress_debris, readme_agrees)
