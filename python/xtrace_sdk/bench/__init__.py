"""Benchmarks of xtrace-sdk beside other Paillier implementations: same data, same run, answers checked.

run       a whole run: data, parameters, and other parameters beside
measure   what is timed, in which order, and how the answers are checked
process   one worker process, spoken to in JSON lines
workers/  one script per implementation; each runs in that implementation's own environment
peers     the environments
machine   CPU, clock frequency, multiply throughput
results   the JSON file;  report makes Markdown of it
"""
