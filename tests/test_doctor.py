"The doctor must answer on a broken machine: that is what it is for."
import json
from importlib import metadata

import pytest

from ccvs import doctor


def test_a_missing_package_is_named_with_its_remedy_and_stops_the_suite(monkeypatch):
    real = metadata.version

    def version(name):
        if name == 'einops':
            raise metadata.PackageNotFoundError(name)
        return real(name)
    monkeypatch.setattr(metadata, 'version', version)
    missing = [finding for finding in doctor.package_findings() if not finding.good]
    assert [finding.part for finding in missing] == ['einops'] and 'pip install' in missing[0].advice
    assert not doctor.can_run(missing)


def test_a_package_for_some_platforms_only_is_not_needed():
    assert not doctor.package_finding("no-such-reader; sys_platform == 'linux'", needed=False).needed
    assert next(finding for finding in doctor.package_findings() if finding.part == 'decord').needed is False


@pytest.mark.parametrize('code', ["raise RuntimeError('operator torchvision::nms does not exist')", 'import os; os.abort()'])
def test_a_pair_that_does_not_fit_gives_the_mending_sentence(code):
    finding = doctor.pair_finding(code)
    assert finding.needed and not finding.good and finding.advice == doctor.MEND_PAIR


def test_a_look_that_fails_is_a_finding_and_not_the_end(monkeypatch):
    def broken():
        raise ImportError('libtorch.so is missing')
    for name in ('device_findings', 'video_finding'):
        monkeypatch.setattr(doctor, name, broken)
    monkeypatch.setattr(doctor, 'pair_finding', lambda: doctor.Finding('torch + torchvision', 'no', good=False))
    findings = doctor.examine()
    assert [finding.found for finding in findings if finding.part == 'video'] == ['ImportError: libtorch.so is missing']
    answer = json.loads(doctor.as_json(findings))
    assert answer['can_run'] is False and {'part', 'found', 'good', 'needed', 'advice'} == set(answer['findings'][0])


def test_video_that_comes_back_wrong_is_noticed(monkeypatch):
    from ccvs.data import video
    real = video.read_video
    monkeypatch.setattr(video, 'read_video', lambda path: real(path)[1:])
    assert not doctor.video_finding().good
