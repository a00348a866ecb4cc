//! A manager in a tree of plain files: what systemd would do there when it is asked.
