"""The cache folder, downloads from the package registry and the checksums of downloaded files.

May import `errors` and `system`.
"""
