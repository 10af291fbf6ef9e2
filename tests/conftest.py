"""Settings for the whole suite, made before anything loads torch."""

import os

from hypothesis import settings

# As the command line does: OpenMP threads that wait must soon sleep, or processes on the same cores starve one another.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
os.environ.setdefault("MKL_CBWR", "AUTO")  # as there, too: the same sums in the same order
settings.register_profile("sailrl", deadline=None)  # a busy machine is no reason for an example to fail
settings.load_profile("sailrl")
