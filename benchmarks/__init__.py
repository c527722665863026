"""Speed of jaxnn against what a user would pick instead: ``python -m benchmarks run``.

``entries`` says what is timed, as data; ``models`` holds the whole models; ``measure`` makes the
callables of one library and times them against each other; ``report`` writes what came out.
"""
