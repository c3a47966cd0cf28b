"""The layout of OpenAI's archived gym-recording over our code.

Replace `gym_recording` with `vecrollout.compat.gym_recording` in a program, and it keeps working with Gymnasium: the
modules `wrappers`, `recording`, `playback` and `storage_s3` have every public name, with the same meaning.

Recordings are written in this package's own format, or in gym-recording's with `file_format="gym_recording"`. Playback
reads both, from one directory too. `vecrollout.interop.gym_recording` converts between them.
"""
