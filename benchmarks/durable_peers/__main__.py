"""Run one peer once: python -m benchmarks.durable_peers PEER SIZE."""

from benchmarks.durable_peers import main

main()
