"""What a worker imports first in tests: a time of day that jumps, back and forth, by hours."""

import itertools
import time

time.time = map([0.0, 4e9, 1e9, -5.0].__getitem__, itertools.cycle(range(4))).__next__
time.time_ns = lambda: int(time.time() * 1e9)
