"""Are the committed modules and notebooks exactly what `nbdev_export` and `nbdev_clean` would write?

Works on a copy, so it needs neither git nor a clean checkout and changes nothing: `python tests/house/exported.py`.
"""
import difflib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK_FOLDERS = ('nbs', 'papermill_runs', 'data_prep')
SKIP = ('.*', '_proc', '_docs', 'out', 'runs', '__pycache__')
MEND = 'nbdev_export && for d in nbs papermill_runs data_prep; do nbdev_clean --fname $d; done'


def copy_sources(root: Path, copy: Path) -> None:
    "Everything the modules are made from, but no module: what has no notebook will be missed in the copy."
    shutil.copy(root / 'settings.ini', copy)
    (copy / 'ccvs').mkdir()
    for folder in NOTEBOOK_FOLDERS:
        if (root / folder).is_dir():
            shutil.copytree(root / folder, copy / folder, ignore=shutil.ignore_patterns(*SKIP))


def tool(copy: Path, name: str, *args: str) -> None:
    done = subprocess.run([str(Path(sys.executable).with_name(name)), *args], cwd=copy, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f'{name} failed:\n{done.stdout}{done.stderr}')


def texts(root: Path) -> dict[str, str]:
    "Relative path -> text of every module and notebook."
    found = {}
    for folder, pattern in [('ccvs', '*.py'), *((name, '*.ipynb') for name in NOTEBOOK_FOLDERS)]:
        for path in sorted((root / folder).rglob(pattern)):
            inside = path.relative_to(root)
            if not any(part.startswith('.') or part in SKIP for part in inside.parts):
                found[inside.as_posix()] = path.read_text(encoding='utf-8')
    return found


def differences(root: Path = ROOT) -> list[str]:
    "One line or a short diff for each file that export or clean would change, add or not make."
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        copy_sources(root, copy)
        tool(copy, 'nbdev_export')
        for name in NOTEBOOK_FOLDERS:
            if (copy / name).is_dir():
                tool(copy, 'nbdev_clean', '--fname', name)
        here, made = texts(root), texts(copy)
    lines = [f'{name}: no notebook exports it' for name in sorted(here.keys() - made.keys())]
    lines += [f'{name}: not exported yet' for name in sorted(made.keys() - here.keys())]
    for name in sorted(here.keys() & made.keys()):
        if here[name] != made[name]:
            diff = difflib.unified_diff(here[name].splitlines(), made[name].splitlines(), 'found', 'expected', n=0, lineterm='')
            lines.append('\n    '.join([f'{name}: differs', *(line[:160] for line in list(diff)[2:10])]))
    return lines


if __name__ == '__main__':
    found = differences()
    if found:
        sys.exit('\n'.join(found) + f'\nTo mend: {MEND}')
    print('Modules and notebooks are as nbdev_export and nbdev_clean leave them.')
