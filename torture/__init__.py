"""What an awaited call confirmed is there, once, in order, whatever happens: the proof.

    python -m torture --seed 7 --seconds 300

A campaign makes cases from a seed for as long as it may, holds each against what the library
promises, and says what it saw in rows of a table. One that can't fail proves nothing, so each
brings mutations: faults planted in the library, every one of which it has to catch.

    report                  a row of the table, what failed and how to see it again
    campaign                what a campaign gets: a seed, an end, a fault to plant
    power_loss, kills,
    faults, concurrency,
    hostile, soak           a package each: `run` and `MUTATIONS`
    nursery                 processes that begin within milliseconds
    mutations               plants one of them
    document                the table of `docs/reliability.md`
"""
