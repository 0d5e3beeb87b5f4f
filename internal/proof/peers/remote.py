"""What the peers have in common: they are told what to do, a line of JSON at
a time on standard input, and answer each with a line on standard output."""

import json
import sys
import traceback


def serve(operations):
    """Calls operations[op](**arguments) for each line, until input ends."""
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"result": operations[request.pop("op")](**request)}
        except Exception:
            answer = {"error": traceback.format_exc()}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
