"""Side-by-side benchmarks: each module's `measure()` yields lines to print."""
