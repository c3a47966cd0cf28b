"""The layout of `imitation.data` (imitation 1.0.1) over our code.

Replace `imitation.data` with `vecrollout.compat.imitation` in a program, and it keeps working: the modules `types`,
`rollout`, `wrappers`, `buffer`, `serialize` and `huggingface_utils` have every public name, with the same meaning.
Their objects work with all of this package, and have `terminated` and `truncated` too.

Where imitation is installed, the classes in these modules inherit from imitation's classes as well, and imitation's
algorithms accept their objects. Elsewhere they are the classes of this package. Convert objects that other modules of
this package return with `vecrollout.interop.imitation`.
"""
