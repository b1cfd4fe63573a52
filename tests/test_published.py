"The table of published runs, and forms filled in beforehand as a person meets them."
import pytest
import yaml
from typer.testing import CliRunner

from ccvs import cli
from ccvs.published import published_runs, published_table, resolved_run
from ccvs.runs import RunError, read_filled, runs_folder

OFFICIAL = {   # scripts that synthesise, CCVS spec 10.3
    'bairhd/state_off', 'bairhd/state_on', 'bairhd/p2p', 'bairhd/unc', 'kinetics/save_videos', 'kinetics/p2p', 'drums/audio_off', 'drums/audio_on',
    'ucf101/save_videos'}


def test_every_official_script_has_its_run():
    table = published_table()
    assert OFFICIAL <= set(table['official'])
    assert len(table) == len(list((runs_folder() / 'published').rglob('*.yaml'))) == table['here'].nunique()
    for dataset in ('bairhd', 'kinetics600', 'drums', 'ucf101'):
        notebooks = {read_filled(name).notebook for name in published_runs() if name.startswith(f'{dataset}/')}
        assert {'train_codec', 'train_prior', 'synthesize', 'evaluate_folders'} <= notebooks


def test_what_is_evaluated_was_synthesised_and_what_synthesises_was_trained():
    forms = [read_filled(name) for name in published_runs()]
    made = {form.parameters['out_dir'] for form in forms if form.notebook == 'synthesize'}
    trained = {f'{form.parameters["out_dir"]}/model' for form in forms if form.notebook == 'train_prior'}
    coded = {form.parameters['out_dir'] for form in forms if form.notebook == 'train_codec'}
    for form in forms:
        if form.notebook == 'evaluate_folders': assert form.parameters['fake'] == form.parameters['real'].replace('real', 'fake') and \
            form.parameters['real'].removesuffix('/real') in made
        if form.notebook == 'synthesize': assert form.parameters['model'] in trained
        if form.notebook == 'train_prior': assert form.parameters.get('parts_dir', form.parameters['out_dir']) in coded


@pytest.mark.parametrize('name, wanted', [('bairhd/train_codec', dict(preset='bair', frames=30)), ('drums/audio_on', dict(given=15, length=30, control='sound')),
                                          ('kinetics600/save_videos', dict(given=5, length=11, clips=1248))])
def test_resolved_parameters(name, wanted):
    values = resolved_run(name)
    assert {key: values[key] for key in wanted} == wanted and values['seed'] == 0


def test_run_shows_what_it_would_do():
    page = CliRunner().invoke(cli.app, ['run', 'bairhd/train_codec', '--small', '--show'], env=dict(COLUMNS='160'))
    assert page.exit_code == 0 and 'bairhd: train the frame autoencoder' in page.stdout
    assert any(line.split('│')[1:3] and 'small' in line and 'True' in line for line in page.stdout.splitlines() if '│' in line)


def test_a_form_from_elsewhere(tmp_path):
    path = tmp_path / 'mine.yaml'
    path.write_text(yaml.safe_dump(dict(notebook='train_codec', parameters=dict(preset='tiny', steps=3))))
    page = CliRunner().invoke(cli.app, ['run', str(path), '--show', '--set', 'steps=5'], env=dict(COLUMNS='160'))
    assert page.exit_code == 0 and any('steps' in line and '5' in line for line in page.stdout.splitlines())


@pytest.mark.parametrize('text, said', [('notebook: train_codec', 'should hold'), ('a: [', 'should hold'), ('notebook: x\nparameters: 3', 'names with values'),
                                        ('notebook: !!python/name:os.system\nparameters: {}', 'should hold')])
def test_a_broken_form_is_one_sentence(tmp_path, text, said):
    (tmp_path / 'x.yaml').write_text(text)
    with pytest.raises(RunError, match=said): read_filled(tmp_path / 'x.yaml')


def test_an_unknown_form_lists_the_others():
    with pytest.raises(RunError, match='bairhd/train_codec'): read_filled('bairhd/train_everything')
