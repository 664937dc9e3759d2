"""A whole world from one seed: the real daemon on a virtual clock, over simulated chains, providers, receivers and
databases that fail in every way we know. What a seed did once it does again, bit for bit, on any machine.

    clock       an event loop whose time jumps from timer to timer
    life        one simulated process: it may die or stand still at any moment
    store       the world's database, which outlives processes, and its faults
    receivers   webhook endpoints behind the real sender, and their faults
    process     the daemon as the supervisor builds it, with the world outside it
    people      who pays, and who operates
    truth       what the simulator itself knows
    checks      the invariants of RULES.md section 8, held against that truth
    world       draws all of it from the seed, step by step

What does not belong here: anything the daemon decides by. What chains do stands in `chains.simulated_chain`, what
providers do in `chains.faults`.
"""
