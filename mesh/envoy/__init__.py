"""Envoy's configuration, rendered from the topology: plain dictionaries in the shape of Envoy's v3 API (1.40).

`plan` says which sidecars there are and where; `sidecar` and `edge` render the bootstrap of one; `discovery` the files
that may change while they run (endpoints, routes, certificates); `parts` what all of them are made of.
"""
