#!/bin/sh
# A delta by hand, from docs/spool.md: write in tmp/, rename into new/.
set -eu
spool="$TALLYD_HOME/state/spool/tallyd-demo"
mkdir -p "$spool/tmp" "$spool/new"
random() { od -An -N8 -tx1 /dev/urandom | tr -d ' \n'; }
name="$(date +%s)000-$$-0-$(random).json"
cat > "$spool/tmp/$name" <<END
{"v": 1, "product": "tallyd-demo", "day": "$(date -u +%Y-%m-%d)",
 "writer": {"epoch": "$(random)", "seq": 0, "lang": "sh", "version": "1"},
 "envelope": {"os": "linux"},
 "counts": [["tool_calls", {"tool": "by_hand"}, {"count": 2, "error_count": 1}]], "events": []}
END
mv "$spool/tmp/$name" "$spool/new/$name"
