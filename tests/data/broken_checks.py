"Checks that misbehave as decoders do; they run in the guard's child."
import os
import signal
import time
from pathlib import Path

from ccvs.data.guard import Verdict, inspect_video


def misbehave(path: str) -> Verdict:
    "What happens depends on the file's name."
    name = Path(path).name
    if name.startswith('hangs'):
        while True: time.sleep(.1)
    if name.startswith('dies'): os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith('once') and not Path(path + '.tried').exists():
        Path(path + '.tried').touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith('eats'): return Verdict(path, True, str(len(bytearray(2 ** 30))), None, None)
    if name.startswith('raises'): raise KeyError('unexpected')
    if name.startswith('talks'): print('["not", true, "an answer", null, null]', flush=True)
    return inspect_video(path)
