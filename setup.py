"Package metadata, read from settings.ini so that every fact has one home."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

ini = ConfigParser(delimiters=['='], interpolation=None)
ini.read(Path(__file__).with_name('settings.ini'), encoding='utf-8')
cfg = ini['DEFAULT']

setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=Path(__file__).with_name('README.md').read_text(encoding='utf-8')
    if Path(__file__).with_name('README.md').exists() else cfg['description'],
    long_description_content_type='text/markdown',
    author=cfg['author'],
    author_email=cfg['author_email'],
    license='Apache-2.0',
    keywords=cfg['keywords'],
    python_requires=f">={cfg['min_python']}",
    packages=find_packages(include=['ccvs', 'ccvs.*']),
    package_data={'ccvs': ['**/*.js', '**/*.css', 'models/**/*']},
    install_requires=cfg['requirements'].split() + [cfg['platform_requirements']],
    extras_require={'dev': cfg['dev_requirements'].split(), 'docs': cfg['docs_requirements'].split()},
    entry_points={'console_scripts': ['ccvs=ccvs.cli:main']},
)
