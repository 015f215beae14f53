"""`RESULTS.md`: what the committed records show, beside what JL25 published; nothing here trains.

`series` reads records, `published` the paper's numbers, `findings` holds the paper's empirical statements against
them, `tables` and `prose` write the parts of `page`.
"""
