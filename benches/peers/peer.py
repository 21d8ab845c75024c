"""What the programs of both peers share: one flow for each line on standard input.

A line is `run` or `hold`. The answer is one line of JSON as soon as the flow's last expectation holds, with the
milliseconds that it took here; what the flow has used is closed after that, and a second line says so. After `hold`
the answer is followed by a pause until another line comes, so that the memory can be measured meanwhile.
"""

import json
import sys
import time


def say(**what):
    print(json.dumps(what), flush=True)


def serve(flow):
    """`flow` is called for each line; it yields once when the last expectation holds, and closes all it has used."""
    say(ready=True)
    for line in sys.stdin:
        began = time.perf_counter()
        running = flow()
        try:
            next(running)
        except Exception as error:  # the benchmark is told and leaves this one out
            say(failed=f"{type(error).__name__}: {error}"[:500])
            continue
        say(ms=(time.perf_counter() - began) * 1000)
        if line.strip() == "hold":
            sys.stdin.readline()
        next(running, None)
        say(closed=True)
