"""From files to rows to splits: read, transform, snapshot, split."""
