"""The service behind the sidecars of `make bench-mesh`: as little work as a service of the kit can do."""
