"""The layout of `imitation.data` (imitation 1.0.1) over our code.

Replace `imitation.data` by `vecrollout.compat.imitation` in a program, and it keeps working: the modules `types`,
`rollout` and `wrappers` have every public name, with the same meaning. Their classes are this package's own, so what
they hand out works with all of it, and carries `terminated` and `truncated` besides.

What the real imitation is to be given goes through `vecrollout.interop.imitation`, as imitation accepts its own classes
only.
"""
