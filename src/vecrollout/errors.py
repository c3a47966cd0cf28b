"""The error tree.

    VecrolloutError
    ├── ShapeError                       (ValueError)    an array has the wrong number of rows or the wrong shape
    ├── DtypeError                       (ValueError)    an array has the wrong dtype
    ├── StructureError                   (ValueError)    a dict or tuple of arrays has other keys than expected
    ├── FlagError                        (ValueError)    `terminal` or `dones` contradicts `terminated` and `truncated`
    ├── StitchError                      (ValueError)    fragments that do not join into one episode
    ├── OptionError                      (ValueError)    an argument outside what it may be
    ├── ArgumentTypeError                (TypeError)     an argument of a kind that cannot be used: no array, no index
    ├── PolicyError                      (TypeError)     something that cannot act as a policy
    ├── SpaceMismatchError               (ValueError)    a policy made for other spaces than the environment's
    ├── StateError                       (ValueError)    a state dict that cannot be made or does not fit
    ├── DamagedTraceError                (ValueError)    a file of a trace does not hold what it should
    ├── TraceNotFoundError               (FileNotFoundError)  there is no directory of traces; a `DamagedTraceError` too
    ├── TraceVersionError                (ValueError)    a trace in a newer format than this version reads
    ├── StoreError                       (OSError)       an object store failed, refused, or could not be reached
    ├── TraceWriteError                  (OSError)       a trace could not be written; says what was lost
    ├── MissingTerminalObservationError  (LookupError)   an episode ended and its last observation was not given
    ├── MissingDependencyError           (ImportError)   an extra that is not installed
    ├── LengthError                      (RuntimeError)  arrays without a common first dimension have no length
    ├── ProtocolError                    (RuntimeError)  `step` before `reset`, two `step_async` in a row, ...
    ├── PrematureResetError              (RuntimeError)  `reset` while recorded data waits to be popped
    ├── EmptyBufferError                 (RuntimeError)  nothing to pop
    ├── BufferFullError                  (RuntimeError)  the next step would hold more than `max_transitions`
    └── WorkerError                      (RuntimeError)  a worker of a distributed collection failed

Each is also the builtin exception that a caller who does not know this package would catch.
"""


class VecrolloutError(Exception):
    """Root of all errors that this package raises on purpose."""


class ShapeError(VecrolloutError, ValueError):
    """An array has the wrong number of rows or the wrong shape."""


class DtypeError(VecrolloutError, ValueError):
    """An array has the wrong dtype."""


class StructureError(VecrolloutError, ValueError):
    """A dict or tuple of arrays has other keys, or another length, than expected."""


class FlagError(VecrolloutError, ValueError):
    """`terminal` or `dones` contradicts `terminated` and `truncated`."""


class StitchError(VecrolloutError, ValueError):
    """Fragments that do not join into one episode: a gap, an overlap, or a foreign one."""


class OptionError(VecrolloutError, ValueError):
    """An argument outside what it may be."""


class ArgumentTypeError(VecrolloutError, TypeError):
    """An argument of a kind that cannot be used: no array where one is needed, no index, no trajectory with rewards."""


class PolicyError(VecrolloutError, TypeError):
    """Something that cannot act as a policy."""


class SpaceMismatchError(VecrolloutError, ValueError):
    """A policy made for other observation or action spaces than the environment's."""


class StateError(VecrolloutError, ValueError):
    """A state dict that cannot be made, or that does not fit the recorder it is loaded into."""


class DamagedTraceError(VecrolloutError, ValueError):
    """A file of a trace is missing, cut, altered, or no such file; `vecrollout.verify_traces` names all that are."""


class TraceNotFoundError(DamagedTraceError, FileNotFoundError):
    """There is no such directory of traces."""


class TraceVersionError(VecrolloutError, ValueError):
    """A trace was written in a newer format than this version of the package reads."""


class TraceWriteError(VecrolloutError, OSError):
    """A trace could not be written, for lack of space for example; the message names what was lost."""


class StoreError(VecrolloutError, OSError):
    """An object store that holds a trace failed, refused, or could not be reached; the trace may be as it should be."""


class MissingTerminalObservationError(VecrolloutError, LookupError):
    """An episode ended and the environment did not hand over its last observation."""


class MissingDependencyError(VecrolloutError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class LengthError(VecrolloutError, RuntimeError):
    """A dict or tuple of arrays has no length: it is empty, or its arrays differ in their first dimension."""


class ProtocolError(VecrolloutError, RuntimeError):
    """Calls in an order that no environment allows, such as `step` before `reset`."""


class PrematureResetError(VecrolloutError, RuntimeError):
    """`reset` was called while recorded data waits to be popped."""


class EmptyBufferError(VecrolloutError, RuntimeError):
    """There is nothing to pop."""


class BufferFullError(VecrolloutError, RuntimeError):
    """The next step would make the buffer hold more than `max_transitions`."""


class WorkerError(VecrolloutError, RuntimeError):
    """A worker of a distributed collection failed: its environment or policy raised, or its process died too often."""
