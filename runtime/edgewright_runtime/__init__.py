"""The device half: bundles, sessions, engines, measurement.  Never imports torch."""
