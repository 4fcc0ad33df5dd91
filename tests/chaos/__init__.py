"""Proofs of the night under faults. In the suite each is short; ``make chaos`` runs the same tests long.

Every claim of safety has an unsafe twin beside it: the same scenario with one guard taken away must fail, so that a
passing proof means something. A kill counts only when it hit a process that had work in hand.
"""
