"""The layout of OpenAI's archived gym-recording over our code.

Replace `gym_recording` by `vecrollout.compat.gym_recording` in a program, and it keeps working with Gymnasium: the
modules `wrappers`, `recording`, `playback` and `storage_s3` have every public name, with the same meaning.

What is recorded goes to disk in this package's own format, or, with `file_format="gym_recording"`, in gym-recording's.
Both are played back, from one directory too. `vecrollout.interop.gym_recording` converts between them.
"""
