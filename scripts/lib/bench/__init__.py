"""What scripts/bench runs: the same calls on storefs, a plain directory and rclone mount.

`python -m bench`, with the directory above this one on the module path. Every candidate is
measured by the same small programs (calls, events), in processes of their own, in alternating
rounds; nothing is subtracted. Listens on nothing, and leaves neither mount nor process.
"""
