"What every test may count on: no model hub is asked for anything, and tests marked gpu run only where there is one."
import os

os.environ.setdefault('HF_HUB_OFFLINE', '1')

import pytest  # noqa: E402


def pytest_collection_modifyitems(items):
    wanting = [item for item in items if item.get_closest_marker('gpu')]
    if wanting:
        import torch
        if not torch.cuda.is_available():
            for item in wanting:
                item.add_marker(pytest.mark.skip(reason='no GPU here'))
