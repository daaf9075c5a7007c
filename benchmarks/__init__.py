"""Speed beside other stores: `make bench` measures and writes `results.md`.

harness       rounds, medians, targets, tables
candidates    this package, raw sqlite3, naive aiosqlite
peers         the session stores of agent frameworks
workloads     messages, callers, clocks
directories   thousands of sessions, made in seconds
victim        a process to be killed
lineup        who takes part
settings      how much is measured
scenarios     what is measured, a function each
"""
