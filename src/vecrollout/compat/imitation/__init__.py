"""The layout of `imitation.data` (imitation 1.0.1) over our code.

Replace `imitation.data` with `vecrollout.compat.imitation` in a program, and it keeps working: the modules `types`,
`rollout` and `wrappers` have every public name, with the same meaning. Their classes are the classes of this package,
so their objects work with all of it, and have `terminated` and `truncated` too.

imitation's algorithms accept imitation's own classes only. Convert objects for them with
`vecrollout.interop.imitation`.
"""
