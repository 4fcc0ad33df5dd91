"""Journeys: what happens to whom, when, as a tree of steps that one person walks at a time.

``tree`` is the shape, ``reading`` makes it from JSON or says what is wrong, ``deciding`` says where somebody goes next,
``entering`` lets people in, ``engine`` moves who is due, ``publishing`` makes versions. Why it is so: docs/adr/0015.
"""
