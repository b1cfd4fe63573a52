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


@pytest.fixture
def one_thread():
    "Toy matrices are too small to share out, and sums in one order only are the same sums. Asked for by `pytestmark`."
    import torch
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
