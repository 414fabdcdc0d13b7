"""A name that tries to be more than a name."""

from __future__ import annotations

HOSTILE = 'a|b\\c*d*_e_`f`<script>x</script>[l](http://h.example)&amp;$1$~~g~~\n# {h} 100% ^2 --?` "q" \u202eх\x1b é'
