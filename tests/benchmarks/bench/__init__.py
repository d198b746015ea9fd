"""The harness of the benchmarks: what is measured, in which rounds, and what is made of it."""
