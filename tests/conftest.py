"""How many cases hypothesis tries: HYPOTHESIS_PROFILE=ci or night for more.  None has a deadline."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

SLOW_MACHINE = [HealthCheck.too_slow]

for profile, cases in (("dev", 100), ("ci", 1000), ("night", 50_000)):
    settings.register_profile(profile, max_examples=cases, deadline=None, suppress_health_check=SLOW_MACHINE)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))
