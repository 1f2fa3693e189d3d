"""Samples on SQLite: a file a day, rollups in files of their own, one writer thread.

How a sample goes through:

- `day.py` appends it to the day's hot table, durably, with its stream and sequence in the row: what was received of a
  stream follows from the rows, nothing else is written. `mirror.py` keeps in memory which rows a series has.
- `packer.py` works in rounds. A round gathers all rows up to an id into one part a series and hour (text, in no need of
  decoding), writes the newest of each and the streams' ranges to `index.py`, and then deletes the rows.
- When an hour has ended, its parts become one packed chunk, and rollups before it (`rollup_files.py`).
- `reading.py` answers from chunks, parts and hot rows of one snapshot; `folder.py` is the store that others see.

Order makes every step safe at a power cut: what comes first can be done again with the same result, and readers
ignore rows that are packed already (`series.packed`) and rollups of hours that are not closed (`series.open_hours`).
"""
